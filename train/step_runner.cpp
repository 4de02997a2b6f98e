#include "train/step_runner.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/device/gpu.h"
#include "train/gradient_reducer.h"
#include "train/scattered_gradients.h"

namespace dm::train {

StepSetup step_setup(const RunConfig& config) {
  return {.weights = parse_dtype(config.train.dtype, "--dtype"),
          .activations = activation_type(config.train),
          .device = at::Device(config.train.device),
          .bucket_bytes = bucket_bytes(config.train),
          .micro_batch = config.train.micro_batch,
          .seed = static_cast<uint64_t>(config.train.seed),
          .global_rows = config.train.global_batch,
          .streams = config.data.order == "streams",
          .zero = config.layout.zero};
}

namespace {

bool exchange_inside_passes(const Groups& groups, const FlatParameters& parameters) {
  return groups.placement.tensor || groups.placement.context || parameters.scattered();
}

}  // namespace

StepRunner::StepRunner(const model::ModelConfig& model, const OptimizerConfig& optimizer,
                       const StepSetup& setup, const Groups& groups)
    : groups_(groups),
      clip_(optimizer.clip),
      parameters_(model::local_parameters(model, groups.placement), setup.weights, groups.shards,
                  setup.device, setup.bucket_bytes, setup.zero),
      optimizer_(optimizer, parameters_),
      model_(model, parameters_.leaves(), setup.activations, groups.placement),
      passes_(model_, setup.micro_batch, setup.seed,
              setup.record && (groups.recordable || !exchange_inside_passes(groups, parameters_))) {
  for (const auto& [name, leaf] : parameters_.leaves()) gradients_.emplace(name, leaf.grad());
  if (setup.streams) passes_.carry(streams_.emplace(model_, setup.global_rows, groups).rows());
  if (parameters_.scattered()) {
    for (const auto& [begin, end] : depths(parameters_.buckets()))
      shared_gradients_.emplace_back(model, groups.placement, begin, end);
    const int64_t rounds = most_passes(setup.global_rows, groups.data_ranks, setup.micro_batch);
    DM_CHECK(rounds > 0, "ZeRO stage 2 without the number of rows of a batch");
    exchange_ = std::make_unique<ScatteredGradients>(
        parameters_, groups.across, rounds,
        [this](size_t bucket) { shared_gradients_[bucket].sum(gradients_); });
  } else {
    shared_gradients_.emplace_back(model, groups.placement);
    exchange_ = std::make_unique<GradientReducer>(parameters_, groups.across);
  }
  beside_passes_ = parameters_.scattered() || shared_gradients_.front().count() == 0;
  if (beside_passes_) passes_.reduce_with(*exchange_);
  WeightGather& gather = parameters_.gather();
  gather.on_arrival([this](int64_t begin, int64_t end) { model_.weights_changed(begin, end); },
                    [this] { return model_.matrices(); });
  if (setup.record && groups.recordable) gather.record(groups.traffic);
  passes_.gather_with(gather);
  if (groups.traffic) passes_.count(*groups.traffic);
}

void StepRunner::accumulate(const data::Batch& batch) {
  parameters_.zero_gradients();
  local_ = passes_.run(batch);
  if (beside_passes_) return;
  // Before ranks of other shares get them, tensor ranks add up what several of them have a part of.
  shared_gradients_.front().sum(gradients_);
  exchange_->finish();
  if (!model_.device().is_cpu())
    kernels::wait_for_gpu();  // as the passes do: exposed_ms() asks for its marks
}

int64_t StepRunner::stored_bytes() const {
  int64_t bytes = streams_ ? streams_->stored_bytes() : 0;
  if (!owns()) return bytes;
  const auto add = [&](const at::Tensor& array) { bytes += static_cast<int64_t>(array.nbytes()); };
  add(parameters_.owned_weights());
  for (const at::Tensor& slot : optimizer_.slots()) add(slot);
  return bytes;
}

StepFacts StepRunner::agree(StepFacts mine) const {
  if (groups_.placement.tp_rank == 0)  // of tensor ranks, which all know the same loss, one counts
    mine.nats = local_.nats, mine.targets = local_.targets;
  if (owns()) mine.gradient_squares = parameters_.owned_gradient_squares();
  return train::agree(mine, groups_.all);
}

double StepRunner::clip_factor(const StepFacts& facts) const {
  if (clip_ == 0) return 1;
  return std::min(1.0, clip_ / (facts.gradient_norm() + 1e-6));
}

void StepRunner::update(double lr, const StepFacts& facts) {
  optimizer_.update(lr, clip_factor(facts) / facts.targets);
}

void StepRunner::weights_changed() {
  parameters_.settle();
  model_.weights_changed();
}

void StepRunner::report(Trace& trace) const {
  exchange_->report(trace);
  parameters_.gather().report(trace);
}

}  // namespace dm::train
