#include "train/parity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "data/loader.h"
#include "train/flat_parameters.h"
#include "train/host_state.h"
#include "train/made_up_rows.h"
#include "train/plan/step_traffic.h"
#include "train/step_runner.h"

namespace dm::train {
namespace {

constexpr int64_t kMicroBatch = 2;  // fewer than a rank's rows, so that gradients of several passes are added

/// Every layer is a bucket: weights are waited for layer by layer, and at stage 2 some gradients share their
/// memory.
constexpr int64_t kLayerBuckets = 1;

/// Without an update, ahead of the step whose gradients are compared: rows that go on go on from one there,
/// and a GPU replays there what it has recorded.
int64_t batches_before(const ParityConfig& config) {
  return config.device == "cuda" ? 2 : config.streams ? 1 : 0;
}

data::Batch own_rows(const model::ModelConfig& model, const ParityConfig& config, int64_t batch,
                     const Groups& groups) {
  const int64_t begin = data::first_row(config.rows, groups.data_rank, groups.data_ranks),
                end = data::first_row(config.rows, groups.data_rank + 1, groups.data_ranks);
  return made_up_rows(model, config.seed, config.length, batch * config.rows + begin, end - begin);
}

// ---- whole tensors on rank 0 ----

/// The ranks' pieces of one owned array, put together on rank 0 of `all`.
Tensors gather_whole(const FlatParameters& parameters, const at::Tensor& owned, Collectives& all) {
  const at::Tensor host = owned.to(at::kCPU).contiguous();
  const auto pieces = pieces_of(parameters, HostState::Purpose::store, "", host.data_ptr());
  Json list = Json::array();
  for (const checkpoints::Piece& piece : pieces)
    list.push_back({piece.name, piece.global_shape, piece.box.offset, piece.box.shape});
  const std::vector<std::string> lists = all.gather_text(list.dump());

  Tensors whole;
  if (all.rank() != 0) {
    for (const checkpoints::Piece& piece : pieces)
      all.send(piece.data, piece.box.count(), piece.dtype, 0)->wait();
    return whole;
  }
  for (int64_t rank = 0; rank < all.size(); ++rank) {
    size_t index = 0;
    for (const Json& entry : Json::parse(lists[static_cast<size_t>(rank)])) {
      const auto name = entry[0].get<std::string>();
      const auto shape = entry[1].get<std::vector<int64_t>>(), offset = entry[2].get<std::vector<int64_t>>(),
                 extent = entry[3].get<std::vector<int64_t>>();
      at::Tensor values = at::empty(extent, host.options());
      if (rank > 0)
        all.receive(values.data_ptr(), values.numel(), parameters.dtype(), rank)->wait();
      else
        values = at::from_blob(pieces[index++].data, extent, host.options()).clone();
      at::Tensor& into = whole[name];
      if (!into.defined())
        into = at::full(shape, std::numeric_limits<double>::quiet_NaN(), at::kDouble);  // what nobody stores
      at::Tensor box = into;
      for (size_t d = 0; d < extent.size(); ++d)
        box = box.narrow(static_cast<int64_t>(d), offset[d], extent[d]);
      box.copy_(values);
    }
  }
  return whole;
}

// ---- tolerances ----

double length_of(const at::Tensor& t) { return t.norm().item<double>(); }

double length_of(const Tensors& tensors) {
  double squares = 0;
  for (const auto& [name, t] : tensors) squares += std::pow(length_of(t), 2);
  return std::sqrt(squares);
}

/// Keeps the worst, and the names of all that are too far. `bound` is what the error may be.
void worsen(Distance& distance, const std::string& tensor, double error, double bound, double size) {
  double over = error == 0 && bound == 0 ? 0 : error / bound;
  if (std::isnan(over)) over = std::numeric_limits<double>::infinity();
  if (over > 1) distance.too_far.push_back(tensor);
  if (over < distance.over_bound && !distance.tensor.empty()) return;
  distance.over_bound = over, distance.relative = size > 0 ? error / size : error, distance.tensor = tensor;
}

/// Sums in another order: float64 within 1e-11 of a tensor, float32 within 1e-5 of it or of a hundredth of
/// the whole gradient, since what nearly cancels is off by more in any float32 program.
double gradient_bound(const std::string& dtype, double size, double whole) {
  if (dtype == "f64") return 1e-11 * std::max(size, 1e-4 * whole);
  return 1e-5 * std::max(size, 1e-2 * whole);
}

/// In bfloat16 the layout may be half as far again from the truth as one rank is.
Distance bf16_distance(const Tensors& truth, const Tensors& alone, const Tensors& layout) {
  constexpr double kMore = 1.5, kSmall = 2e-2;
  constexpr int64_t kManyElements = 4096;
  Distance distance;
  const double whole = length_of(truth);
  double squares_alone = 0, squares_layout = 0;
  for (const auto& [name, b] : truth) {
    const double size = length_of(b), error = length_of(layout.at(name) - b),
                 one = length_of(alone.at(name) - b);
    squares_alone += one * one, squares_layout += error * error;
    worsen(distance, name, error,
           b.numel() >= kManyElements ? kMore * one : kSmall * std::max(size, 1e-2 * whole), size);
  }
  worsen(distance, "all together", std::sqrt(squares_layout), kMore * std::sqrt(squares_alone), whole);
  return distance;
}

}  // namespace

ParityRun run_parity_steps(const model::ModelConfig& model_config, const ParityConfig& config,
                           const std::string& dtype, at::Device device, const Groups& groups) {
  const DType weights = dtype == "f64" ? DType::f64 : DType::f32;
  const at::ScalarType activations = dtype == "bf16" ? at::kBFloat16 : scalar_type(weights);
  OptimizerConfig recipe;
  recipe.clip = config.clip;
  StepRunner runner(model_config, recipe,
                    {.weights = weights,
                     .activations = activations,
                     .device = device,
                     .bucket_bytes = kLayerBuckets,
                     .micro_batch = kMicroBatch,
                     .seed = static_cast<uint64_t>(config.seed),
                     .global_rows = config.rows,
                     .streams = config.streams,
                     .zero = config.zero},
                    groups);
  FlatParameters& parameters = runner.parameters();
  parameters.initialise(model_config, static_cast<uint64_t>(config.seed));
  runner.weights_changed();

  const int64_t before = batches_before(config);
  for (int64_t batch = 0; batch < before; ++batch)
    runner.accumulate(own_rows(model_config, config, batch, groups));

  ParityRun run;
  run.initial = gather_whole(parameters, parameters.owned_weights(), groups.all);
  AxisTraffic planned;
  const auto counting = [&](const auto& part) {  // of a step, without what is gathered in between
    const AxisTraffic before = groups.traffic ? *groups.traffic : AxisTraffic();
    part();
    if (groups.traffic) run.traffic += groups.traffic->since(before);
  };
  for (int64_t step = 0; step < config.steps; ++step) {
    StepFacts facts;
    counting([&] {
      runner.accumulate(own_rows(model_config, config, before + step, groups));
      facts = runner.agree();
    });
    run.last_loss = facts.loss();
    if (step == 0) {
      run.loss = facts.loss(), run.clip = runner.clip_factor(facts);
      run.gradients = gather_whole(parameters, parameters.owned_gradients() / facts.targets, groups.all);
    }
    counting([&] { runner.update(recipe.lr, facts); });
    planned += step_traffic(model_config, RankPlace::of(groups),
                            {.rows = config.rows,
                             .length = config.length,
                             .micro_batch = kMicroBatch,
                             .weights = weights,
                             .activations = dtype == "bf16" ? DType::bf16 : weights,
                             .bucket_bytes = kLayerBuckets,
                             .streams = config.streams,
                             .zero = config.zero});
  }
  AxisTraffic counted = run.traffic;
  // How much of a cluster an adaptive softmax gathers depends on the targets in it, which no plan knows.
  if (!model_config.cutoffs.empty()) counted.tensor = planned.tensor = Traffic();
  if (groups.traffic) run.not_planned = first_difference(counted, planned);
  run.weights = gather_whole(parameters, parameters.owned_weights(), groups.all);
  return run;
}

ParityVerdict compare_parity(const ParityRun& truth, const ParityRun& alone, const ParityRun& layout,
                             const std::string& dtype) {
  ParityVerdict verdict;
  verdict.same_initial = true;
  for (const auto& [name, expected] : alone.initial) {
    if (at::equal(expected, layout.initial.at(name))) continue;
    verdict.same_initial = false, verdict.first_different = name;
    break;
  }
  const double loss_bound = dtype == "f64" ? 1e-12 : dtype == "f32" ? 1e-5 : 5e-3;
  worsen(verdict.loss, "loss", std::abs(layout.loss - truth.loss), loss_bound * std::abs(truth.loss),
         std::abs(truth.loss));
  const double whole = length_of(truth.gradients);
  if (dtype == "bf16")
    verdict.gradients = bf16_distance(truth.gradients, alone.gradients, layout.gradients);
  else
    for (const auto& [name, b] : truth.gradients)
      worsen(verdict.gradients, name, length_of(layout.gradients.at(name) - b),
             gradient_bound(dtype, length_of(b), whole), length_of(b));
  // Adam divides by the gradient's own size: where that is rounding, so is the direction of the step.
  const double weight_bound = dtype == "f64" ? 1e-9 : dtype == "f32" ? 1e-3 : 2e-2;
  for (const auto& [name, b] : truth.weights)
    worsen(verdict.weights, name, length_of(layout.weights.at(name) - b), weight_bound * length_of(b),
           length_of(b));
  return verdict;
}

std::string find_leak(const model::ModelConfig& model_config, const ParityConfig& config,
                      const std::string& dtype, at::Device device, const Groups& groups) {
  const DType weights = dtype == "f64" ? DType::f64 : DType::f32;
  const at::ScalarType activations = dtype == "bf16" ? at::kBFloat16 : scalar_type(weights);
  FlatParameters parameters(model::local_parameters(model_config, groups.placement), weights, groups.shards,
                            device);
  parameters.initialise(model_config, static_cast<uint64_t>(config.seed));
  model::LanguageModel model(model_config, parameters.leaves(), activations, groups.placement);
  model.weights_changed();

  data::Batch batch = made_up_rows(model_config, config.seed, config.length, 0, 1);
  const int32_t changed = batch.seq_idx.back() / 2;
  DM_REQUIRE(batch.seq_idx.back() > 0, ExitCode::usage,
             "--length {}: the row holds one document only, so nothing could leak; give more", config.length);
  const model::Placement& place = groups.placement;
  const model::TokenRange piece = model::context_piece(config.length, place.cp, place.cp_rank);
  const auto own = [&](const std::vector<int32_t>& row) {
    return at::tensor(std::vector<int64_t>(row.begin() + piece.begin, row.begin() + piece.end), at::kLong)
        .unsqueeze(0)
        .to(device);
  };
  const at::Tensor seq_idx = own(batch.seq_idx).to(at::kInt);
  const at::Tensor elsewhere = (seq_idx[0] != changed).nonzero().squeeze(1);
  const auto states = [&] {
    std::vector<at::Tensor> seen;
    model::LanguageModel::Taps taps;
    for (int64_t layer = -1; layer < model.layers(); ++layer) taps.layers.push_back(layer);
    taps.visit = [&](int64_t, const at::Tensor& h) {
      seen.push_back(h[0].index_select(0, elsewhere).clone());
    };
    const at::NoGradGuard no_gradients;
    seen.push_back(model.logits(own(batch.tokens), seq_idx, &taps)[0].index_select(0, elsewhere).clone());
    return seen;
  };
  const std::vector<at::Tensor> before = states();
  for (int64_t t = 0; t < config.length; ++t)
    if (batch.seq_idx[static_cast<size_t>(t)] == changed) {
      int32_t& token = batch.tokens[static_cast<size_t>(t)];
      token = static_cast<int32_t>((token + 1) % model_config.vocab_size);
    }
  const std::vector<at::Tensor> after = states();

  std::string mine;
  for (size_t i = 0; i < before.size() && mine.empty(); ++i) {
    if (at::equal(before[i], after[i])) continue;
    const at::Tensor moved = (before[i] != after[i]).flatten(1).any(1).nonzero()[0];
    const int64_t position = piece.begin + elsewhere[moved.item<int64_t>()].item<int64_t>();
    const std::string what =
        i + 1 == before.size() ? "the logits" : fmt::format("hidden state {}", int64_t(i) - 1);
    mine = fmt::format("rank {}: {} at token {} moved with document {}", groups.all.rank(), what, position,
                       changed);
  }
  for (const std::string& text : groups.all.gather_text(mine))
    if (!text.empty()) return text;
  return "";
}

}  // namespace dm::train
