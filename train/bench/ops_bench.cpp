#include "train/bench/ops_bench.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "kernels/conv/causal_conv.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/device/gpu.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gated_norm/gated_norm.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/residual_norm.h"
#include "kernels/selective_scan/selective_scan.h"
#include "kernels/ssd/ssd.h"
#include "model/cost.h"
#include "model/language_model.h"
#include "train/bench/floor.h"
#include "train/bench/quantile.h"
#include "train/device_name.h"
#include "train/stopwatch.h"

namespace dm::train {
namespace {

using Tensors = std::vector<at::Tensor>;

/// An operation: what it reads that takes a gradient, and its results.
struct Operation {
  std::string name;
  Tensors leaves;
  std::function<Tensors()> forward;
};

/// Of the first layer with a mixer, read off its parameters.
struct MixerShapes {
  int64_t branches = 0;
  int64_t rows = 0;     // of in_proj, all branches
  int64_t inner = 0;    // E of a branch
  int64_t heads = 0;    // H of a branch; 0 on Mamba-1
  int64_t outputs = 0;  // columns of out_proj, all branches

  static MixerShapes of(const model::ModelConfig& config) {
    MixerShapes shapes;
    int64_t depth = 0;
    for (const model::ParameterInfo& info : model::parameter_infos(config)) {
      const auto is = [&](const char* stem) { return info.name.find(stem) != std::string::npos; };
      if (shapes.branches > 0 && info.depth != depth) break;
      if (is(".in_proj")) depth = info.depth, ++shapes.branches, shapes.rows += info.shape[0];
      if (is(".out_proj")) shapes.outputs += info.shape[1];
      if (is(".A_log") && info.shape.size() == 1) shapes.heads = info.shape[0];
      if (is(".D")) shapes.inner = info.shape[0];
      if (is(".norm.weight") && is(".mixer")) shapes.inner = info.shape[0];
    }
    DM_REQUIRE(shapes.branches > 0, ExitCode::usage, "--pattern {}: no layer with a mixer to time",
               config.pattern);
    return shapes;
  }
};

class Operations {
 public:
  Operations(const model::ModelConfig& model, const StepBenchConfig& config)
      : model_(model),
        config_(config),
        gpu_(config.device == "cuda"),
        activations_(gpu_ && config.compute != "f32" ? at::kBFloat16 : at::kFloat),
        options_(at::dtype(at::kFloat).device(at::Device(config.device))) {
    seq_idx_ = (at::arange(config.length, options_.dtype(at::kInt)).floor_divide(config.document_tokens))
                   .to(at::kInt)
                   .expand({config.rows, config.length})
                   .contiguous();
  }

  std::vector<Operation> all() const {
    const MixerShapes mixer = MixerShapes::of(model_);
    std::vector<Operation> list{embedding(), residual(), product("in_proj", model_.d_model, mixer.rows)};
    if (mixer.heads > 0)
      add_mamba2(list, mixer);
    else
      add_mamba1(list, mixer);
    list.push_back(product("out_proj", mixer.outputs, model_.d_model));
    list.push_back(head());
    return list;
  }

 private:
  int64_t tokens() const { return config_.rows * config_.length; }
  at::Tensor activation(int64_t width) const {
    return at::randn({config_.rows, config_.length, width}, options_).to(activations_).requires_grad_();
  }
  at::Tensor weight(at::IntArrayRef shape) const {
    return at::randn(shape, options_).mul_(0.02).requires_grad_();
  }
  at::Tensor positive(at::IntArrayRef shape, double low, double high) const {
    return at::rand(shape, options_).mul_(high - low).add_(low).requires_grad_();
  }
  /// As the model has it: a copy in the dtype of the activations, its gradient added in float32.
  kernels::Weight matrix(int64_t outputs, int64_t inputs) const {
    const at::Tensor values = weight({outputs, inputs}).detach();
    if (!gpu_) return values.requires_grad_();
    return {values.to(activations_), {{at::zeros_like(values), 0, 0}}};
  }
  static Tensors leaves(std::initializer_list<at::Tensor> all) {
    Tensors list;
    for (const at::Tensor& t : all)
      if (t.requires_grad()) list.push_back(t);
    return list;
  }

  Operation embedding() const {
    const at::Tensor ids = at::randint(model_.vocab_size, {config_.rows, config_.length},
                                       options_.dtype(at::kLong)),
                     table = weight({model_.vocab_size, model_.d_model});
    return {"embedding", {table}, [=] { return Tensors{kernels::embedding(ids, table)}; }};
  }
  Operation residual() const {
    const at::Tensor h = activation(model_.d_model).detach().to(at::kFloat).requires_grad_(),
                     y = activation(model_.d_model), subln = weight({model_.d_model}),
                     norm = weight({model_.d_model});
    const double eps = model_.norm_eps;
    return {"residual+norm", {h, y, subln, norm}, [=] {
              const kernels::ResidualNorm passed = kernels::residual_norm(h, y, subln, norm, eps);
              return Tensors{passed.h, passed.u};
            }};
  }
  Operation product(const std::string& name, int64_t inputs, int64_t outputs) const {
    const at::Tensor x = activation(inputs);
    const kernels::Weight w = matrix(outputs, inputs);
    return {name, leaves({x, w.value}), [=] { return Tensors{kernels::linear(x, w)}; }};
  }
  Operation convolution(int64_t channels) const {
    const at::Tensor x = activation(channels), taps = weight({channels, model_.d_conv}),
                     bias = weight({channels}), seq_idx = seq_idx_;
    return {"conv", {x, taps, bias}, [=] {
              return Tensors{kernels::causal_conv_silu(x, taps, bias, seq_idx, std::nullopt)};
            }};
  }

  void add_mamba2(std::vector<Operation>& list, const MixerShapes& mixer) const {
    const int64_t branches = mixer.branches, e = branches * mixer.inner, groups = branches * model_.n_groups,
                  heads = branches * mixer.heads, head_dim = mixer.inner / mixer.heads, n = model_.d_state,
                  chunk = model_.chunk_size;
    const at::Tensor seq_idx = seq_idx_;
    list.push_back(convolution(e + 2 * groups * n));
    const at::Tensor x = activation(e), b = activation(groups * n), c = activation(groups * n),
                     dt = positive({config_.rows, config_.length, heads}, 1e-3, 0.1),
                     a = positive({heads}, -16, -1), skip = weight({heads});
    list.push_back({"ssd", {x, dt, a, b, c, skip}, [=] {
                      const kernels::ScanOutput out = kernels::ssd(
                          x.unflatten(-1, {heads, head_dim}), dt, a, b.unflatten(-1, {groups, n}),
                          c.unflatten(-1, {groups, n}), skip, seq_idx, std::nullopt, chunk);
                      return Tensors{out.y};
                    }});
    const at::Tensor y = activation(e), z = activation(e), norm = weight({e}), scale = weight({branches});
    const double eps = model_.norm_eps;
    list.push_back({"gated_norm", {y, z, norm, scale}, [=] {
                      return Tensors{kernels::gated_norm(y, z, norm, branches, scale, eps)};
                    }});
  }

  void add_mamba1(std::vector<Operation>& list, const MixerShapes& mixer) const {
    const int64_t inner = mixer.inner, n = model_.d_state;
    const at::Tensor seq_idx = seq_idx_;
    list.push_back(convolution(mixer.branches * inner));
    std::vector<Tensors> scans;
    Tensors all;
    for (int64_t i = 0; i < mixer.branches; ++i) {
      const at::Tensor dt =
          positive({config_.rows, config_.length, inner}, 1e-3, 0.1).detach().to(activations_);
      scans.push_back({activation(inner), dt.requires_grad_(), positive({inner, n}, -16, -1), activation(n),
                       activation(n), weight({inner})});
      all.insert(all.end(), scans.back().begin(), scans.back().end());
    }
    list.push_back(
        {"selective_scan", all, [=] {
           Tensors results;
           for (const Tensors& t : scans)
             results.push_back(
                 kernels::selective_scan(t[0], t[1], t[2], t[3], t[4], t[5], seq_idx, std::nullopt).y);
           return results;
         }});
  }

  Operation head() const {
    const at::Tensor h = activation(model_.d_model).detach().flatten(0, 1).requires_grad_();
    const kernels::Weight w = matrix(model_.vocab_size, model_.d_model);
    const at::Tensor targets = at::randint(model_.vocab_size, {tokens()}, options_.dtype(at::kLong)),
                     mask = at::ones({tokens()}, options_.dtype(at::kByte));
    return {"head", leaves({h, w.value}),
            [=] { return Tensors{kernels::linear_cross_entropy(h, w, targets, mask).sum}; }};
  }

  const model::ModelConfig& model_;
  const StepBenchConfig& config_;
  bool gpu_;
  at::ScalarType activations_;
  at::TensorOptions options_;
  at::Tensor seq_idx_;
};

/// Microseconds of one run of `work`, median; several between two waits, so that starting them is hidden.
double median_us(const StepBenchConfig& config, const std::function<void()>& work) {
  const bool gpu = config.device == "cuda";
  const int together = gpu ? 10 : 1;
  kernels::Graph graph(gpu && config.graph);
  for (int i = 0; i < 3; ++i) graph.run(work);
  std::vector<double> times;
  for (int64_t i = 0; i < config.repetitions; ++i) {
    if (gpu) kernels::wait_for_gpu();
    const Stopwatch time;
    for (int k = 0; k < together; ++k) graph.run(work);
    if (gpu) kernels::wait_for_gpu();
    times.push_back(time.seconds() * 1e6 / together);
  }
  std::sort(times.begin(), times.end());
  return quantile(times, 0.5);
}

OperationTime time_of(const Operation& operation, const StepBenchConfig& config) {
  OperationTime result{operation.name};
  result.forward_us = median_us(config, [&] { operation.forward(); });
  Tensors gradients;
  for (const at::Tensor& output : operation.forward())
    gradients.push_back(output.dim() == 0 ? at::ones_like(output) : at::randn_like(output));
  const double both = median_us(config, [&] {
    torch::autograd::grad(operation.forward(), operation.leaves, gradients, std::nullopt,
                          /*create_graph=*/false, /*allow_unused=*/true);
  });
  result.backward_us = both - result.forward_us;
  return result;
}

/// Adds the floors of the stage of that name, if there is one.
void add_floor(OperationTime& operation, const model::ModelCost& cost, double tokens,
               const BenchRates& rates) {
  const auto us = [&](double flops, double bytes) {
    return rates.microseconds(tokens * flops, tokens * bytes);
  };
  const auto add = [&](const model::StageCost& stage) {
    operation.floor_forward_us = us(stage.forward_flops, stage.forward_bytes);
    operation.floor_backward_us = us(stage.backward_flops, stage.backward_bytes);
  };
  if (operation.name == cost.head.stage) return add(cost.head);
  for (const model::LayerCost& layer : cost.layers)
    for (const model::StageCost& stage : layer.stages)
      if (stage.stage == operation.name) return add(stage);
}

}  // namespace

OpsBenchResult bench_ops(const model::ModelConfig& model, const StepBenchConfig& config) {
  model::validate(model);
  const bool gpu = for_gpu(config);
  if (gpu) kernels::use_gpu(0);
  OpsBenchResult result;
  result.device = device_name(gpu);
  const BenchRates rates = bench_rates(config, result.device);
  if (!rates.known()) result.missing = rates.missing;
  result.tokens = config.rows * config.length;
  const model::ModelCost cost = model::model_cost(model);
  for (const Operation& operation : Operations(model, config).all()) {
    result.operations.push_back(time_of(operation, config));
    if (rates.known()) add_floor(result.operations.back(), cost, static_cast<double>(result.tokens), rates);
  }
  return result;
}

Json OperationTime::json() const {
  Json json{{"operation", name}, {"forward_us", forward_us}, {"backward_us", backward_us}};
  if (floor_forward_us + floor_backward_us > 0)
    json["floor_forward_us"] = floor_forward_us, json["floor_backward_us"] = floor_backward_us,
    json["percent_of_floor"] = 100 * (floor_forward_us + floor_backward_us) / (forward_us + backward_us);
  return json;
}

Json OpsBenchResult::json() const {
  Json json{{"device", device}, {"tokens", tokens}};
  if (!missing.empty()) json["missing"] = missing;
  for (const OperationTime& operation : operations) json["operations"].push_back(operation.json());
  return json;
}

}  // namespace dm::train
