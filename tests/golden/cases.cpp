#include "tests/golden/cases.h"

#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <set>

#include "core/error.h"
#include "kernels/adamw/adamw.h"
#include "model/language_model.h"
#include "model/layers/registry.h"
#include "model/matrices.h"
#include "tests/golden/tolerance.h"

namespace dm::golden {
namespace {

// Shorter than any row of the files, and dividing none: the chunks' borders and the ragged last one are
// always met.
constexpr int64_t kChunk = 16;

double l2(const at::Tensor& t) { return t.to(at::kDouble).norm().item<double>(); }

double l2_of_all(const std::map<std::string, at::Tensor>& tensors) {
  double squares = 0;
  for (const auto& [name, t] : tensors) squares += std::pow(l2(t), 2);
  return std::sqrt(squares);
}

class Comparisons {
 public:
  void add(const std::string& quantity, const at::Tensor& a, const at::Tensor& b, double bound) {
    DM_REQUIRE(a.sizes() == b.sizes(), ExitCode::bad_data, "{}: computed and stored shapes differ", quantity);
    all.push_back({quantity, l2(a.detach().to(at::kCPU, at::kDouble) - b), bound, l2(b)});
  }
  void relative(const std::string& quantity, const at::Tensor& a, const at::Tensor& b, double tolerance) {
    add(quantity, a, b, tolerance * l2(b));
  }
  std::vector<Comparison> all;
};

/// On a GPU a leaf's gradient is there from the start: the operations add to it in place.
at::Tensor leaf(const at::Tensor& values, const Arithmetic& in) {
  at::Tensor leaf =
      values.to(in.device, in.dtype, /*non_blocking=*/false, /*copy=*/true).set_requires_grad(true);
  if (!in.device.is_cpu()) leaf.mutable_grad() = at::zeros_like(leaf.detach());
  return leaf;
}

void clear_gradient(const at::Tensor& leaf) {
  if (leaf.is_cpu())
    leaf.mutable_grad() = at::Tensor();
  else
    leaf.mutable_grad().zero_();
}

model::ModelConfig read_config(GoldenFile& file) {
  model::ModelConfig config;
  config.mixer = file.text("mixer");
  config.d_model = file.integer("d_model");
  config.d_state = file.integer("d_state");
  config.d_conv = file.integer("d_conv");
  config.subln = file.flag("subln");
  if (file.has("n_groups")) config.n_groups = file.integer("n_groups");
  if (file.has("dt_rank")) config.dt_rank = file.integer("dt_rank");
  if (file.has("norm_group")) config.norm_group = file.text("norm_group");
  if (const std::string lambda = file.text("lambda"); lambda != "none") config.lambda = lambda;
  config.chunk_size = kChunk;
  return config;
}

/// The parameters as leaves, after checking that they are exactly the declared ones. `prefix` is put before
/// stored names.
model::Parameters read_parameters(GoldenFile& file, const std::vector<model::ParameterInfo>& infos,
                                  const std::string& prefix, const Arithmetic& in) {
  model::Parameters leaves;
  for (const auto& [name, values] : file.group("param")) leaves.emplace(prefix + name, leaf(values, in));
  std::set<std::string> declared;
  for (const model::ParameterInfo& info : infos) {
    declared.insert(info.name);
    const auto found = leaves.find(info.name);
    DM_REQUIRE(found != leaves.end(), ExitCode::bad_data, "{}: no parameter '{}'", file.path(), info.name);
    DM_REQUIRE(found->second.sizes().vec() == info.shape, ExitCode::bad_data, "{}: '{}' has another shape",
               file.path(), info.name);
  }
  for (const auto& [name, values] : leaves)
    DM_REQUIRE(declared.contains(name), ExitCode::bad_data, "{}: parameter '{}' is not used", file.path(),
               name);
  return leaves;
}

void compare_gradients(GoldenFile& file, const std::map<std::string, at::Tensor>& leaves,
                       at::ScalarType dtype, Comparisons& out) {
  auto stored = file.group("grad");
  auto of_parameters = stored;
  of_parameters.erase("u");  // the input's: compared, but no parameter
  const double all = l2_of_all(of_parameters);
  DM_REQUIRE(stored.size() == leaves.size(), ExitCode::bad_data, "{}: {} gradients for {} leaves",
             file.path(), stored.size(), leaves.size());
  for (const auto& [name, b] : stored) {
    const auto found = leaves.find(name);
    DM_REQUIRE(found != leaves.end() && found->second.grad().defined(), ExitCode::bad_data,
               "{}: nothing gave a gradient of '{}'", file.path(), name);
    out.add("grad/" + name, found->second.grad(), b, gradient_bound(dtype, l2(b), all));
  }
}

// ---- one layer
// -----------------------------------------------------------------------------------------------------

/// What the kinds of single-layer files are: the layer's letter and what its stored names lack.
struct LayerFile {
  const char* kind;
  char letter;
  const char* prefix;
};
constexpr LayerFile kLayerFiles[] = {
    {"mixer", 'M', "mixer."}, {"differential", 'D', ""}, {"diff_scan", 'S', "mixer."}};

std::vector<Comparison> run_layer(GoldenFile& file, const LayerFile& form, const Arithmetic& in) {
  const at::ScalarType dtype = in.dtype;
  model::ModelConfig config = read_config(file);
  config.head_dim = config.head_dim_plain = file.integer("head_dim");
  const model::LayerKind& kind = model::layer_kind(form.letter);
  kind.validate(config);
  const int64_t index = file.integer("layer"), inner = file.integer("inner");

  std::vector<model::DeclaredParameter> declared;
  kind.declare(config, index, model::Declare(declared));
  std::vector<model::ParameterInfo> infos;
  for (model::DeclaredParameter& p : declared) infos.push_back(std::move(p.info));
  const model::Parameters parameters = read_parameters(file, infos, form.prefix, in);
  const at::Tensor u = leaf(file.tensor("input/u"), in),
                   seq_idx = file.tensor("input/seq_idx").to(in.device, at::kInt);
  DM_REQUIRE(u.size(0) == file.integer("batch") && u.size(1) == file.integer("length"), ExitCode::bad_data,
             "{}: u is not [batch, length, d_model]", file.path());
  const int64_t width = parameters
                            .at(kind.has_difference() && *form.prefix == '\0' ? "mixer_1.out_proj.weight"
                                                                              : "mixer.out_proj.weight")
                            .size(1);
  DM_REQUIRE(inner == width, ExitCode::bad_data, "{}: inner is {}, the layer's is {}", file.path(), inner,
             width);

  model::Matrices matrices(parameters, dtype);
  const auto layer =
      kind.bind({config, index, model::Scope(parameters, "", in.device.is_cpu() ? nullptr : &matrices)});
  const at::Tensor y = model::normalised_output(*layer, u, seq_idx, config.norm_eps);
  (y * file.tensor("input/dy").to(in.device, dtype)).sum().backward();

  Comparisons out;
  out.relative("y", y, file.tensor("output/y"), forward_tolerance(dtype));
  std::map<std::string, at::Tensor> leaves = {{"u", u}};
  for (const auto& [name, values] : parameters)
    leaves.emplace(name.substr(std::string(form.prefix).size()), values);
  compare_gradients(file, leaves, dtype, out);
  return out.all;
}

// ---- a language model, trained
// -------------------------------------------------------------------------------------

constexpr double kLearningRate = 1e-2, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kDecay = 0.1, kClip = 1.0;

/// The optimizer of generate.py on our own kernel: clipping by the global norm, then AdamW.
class Trainer {
 public:
  Trainer(const std::vector<model::ParameterInfo>& infos, const model::Parameters& parameters)
      : infos_(infos), parameters_(parameters) {
    for (const auto& info : infos_) {
      m_.push_back(at::zeros_like(parameters_.at(info.name).detach().cpu()));
      v_.push_back(at::zeros_like(m_.back()));
    }
  }

  /// Returns the norm before clipping.
  double step() {
    double squares = 0;
    for (const auto& info : infos_) squares += std::pow(l2(parameters_.at(info.name).grad().cpu()), 2);
    const double size = std::sqrt(squares), scale = std::min(1.0, kClip / (size + 1e-6));
    ++steps_;
    for (size_t i = 0; i < infos_.size(); ++i) {
      const at::Tensor leaf = parameters_.at(infos_[i].name).detach(), weight = leaf.cpu(),
                       gradient = parameters_.at(infos_[i].name).grad().cpu().contiguous();
      const kernels::AdamWStep step{kLearningRate, kBeta1, kBeta2, kEps, infos_[i].decay ? kDecay : 0,
                                    scale,         steps_};
      AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "adamw", [&] {
        kernels::adamw(weight.data_ptr<scalar_t>(), m_[i].data_ptr<scalar_t>(), v_[i].data_ptr<scalar_t>(),
                       gradient.data_ptr<scalar_t>(), weight.numel(), step);
      });
      if (!leaf.is_cpu()) leaf.copy_(weight);
    }
    return size;
  }

 private:
  const std::vector<model::ParameterInfo>& infos_;
  const model::Parameters& parameters_;
  std::vector<at::Tensor> m_, v_;
  int64_t steps_ = 0;
};

std::vector<Comparison> run_language_model(GoldenFile& file, const Arithmetic& in) {
  const at::ScalarType dtype = in.dtype;
  model::ModelConfig config = read_config(file);
  config.head_dim = file.integer("head_dim");
  config.head_dim_plain = 2 * config.head_dim;
  config.tied = file.flag("tied");
  config.pattern = file.text("pattern");
  config.vocab_size = file.integer("vocab");
  const auto infos = model::parameter_infos(config);
  const model::Parameters parameters = read_parameters(file, infos, "", in);
  model::LanguageModel lm(config, parameters);

  const at::Tensor tokens = file.tensor("input/ids").to(in.device),
                   seq_idx = file.tensor("input/seq_idx").to(in.device, at::kInt);
  DM_REQUIRE(seq_idx.size(0) == file.integer("batch") && seq_idx.size(1) == file.integer("length"),
             ExitCode::bad_data, "{}: seq_idx is not [batch, length]", file.path());
  const at::Tensor mask = at::ones(seq_idx.sizes(), seq_idx.options().dtype(at::kByte)),
                   losses = file.tensor("output/loss"), norms = file.tensor("output/grad_norm");
  const int64_t steps = file.integer("steps");
  DM_REQUIRE(losses.numel() == steps && norms.numel() == steps, ExitCode::bad_data,
             "{}: not {} losses and norms", file.path(), steps);

  Comparisons out;
  out.relative("logits", lm.logits(tokens.narrow(1, 0, seq_idx.size(1)), seq_idx),
               file.tensor("output/logits"), forward_tolerance(dtype));
  Trainer trainer(infos, parameters);
  for (int64_t s = 0; s < steps; ++s) {
    for (const auto& [name, weight] : parameters) clear_gradient(weight);
    // The sum's own gradient, divided afterwards: a GPU takes no other factor than 1 there.
    const at::Tensor sum = lm.loss_sum(tokens, seq_idx, mask), loss = sum.detach() / mask.numel();
    sum.backward();
    for (const auto& [name, weight] : parameters) weight.mutable_grad() /= mask.numel();
    if (s == 0) compare_gradients(file, parameters, dtype, out);
    out.relative(fmt::format("loss[{}]", s), loss, losses[s],
                 s == 0 ? forward_tolerance(dtype) : trained_tolerance(dtype));
    out.relative(fmt::format("grad_norm[{}]", s), at::scalar_tensor(trainer.step(), at::kDouble), norms[s],
                 trained_tolerance(dtype));
    lm.weights_changed();
  }
  const auto trained = file.group("trained");
  DM_REQUIRE(trained.size() == parameters.size(), ExitCode::bad_data,
             "{}: {} trained weights for {} parameters", file.path(), trained.size(), parameters.size());
  for (const auto& [name, values] : parameters)
    out.relative("trained/" + name, values, file.tensor("trained/" + name), trained_tolerance(dtype));
  return out.all;
}

}  // namespace

std::vector<Comparison> run_case(const std::string& path, const Arithmetic& in) {
  GoldenFile file(path);
  const std::string kind = file.text("kind");
  const auto run = [&] {
    if (kind == "lm") return run_language_model(file, in);
    for (const LayerFile& form : kLayerFiles)
      if (kind == form.kind) return run_layer(file, form, in);
    DM_FAIL(ExitCode::bad_data, "{}: unknown kind '{}'", path, kind);
  };
  auto comparisons = run();
  file.require_all_used();
  return comparisons;
}

}  // namespace dm::golden
