#include "train/step_runner.h"

#include <algorithm>

namespace dm::train {

StepSetup step_setup(const RunConfig& config) {
  return {.weights = parse_dtype(config.train.dtype, "--dtype"),
          .activations = activation_type(config.train),
          .device = at::Device(config.train.device),
          .bucket_bytes = bucket_bytes(config.train),
          .micro_batch = config.train.micro_batch,
          .seed = static_cast<uint64_t>(config.train.seed),
          .streams = config.data.order == "streams" ? config.train.global_batch : 0};
}

StepRunner::StepRunner(const model::ModelConfig& model, const OptimizerConfig& optimizer,
                       const StepSetup& setup, const Groups& groups)
    : groups_(groups),
      clip_(optimizer.clip),
      parameters_(model::local_parameters(model, groups.placement), setup.weights, groups.shards,
                  setup.device, setup.bucket_bytes),
      optimizer_(optimizer, parameters_),
      shared_gradients_(model, groups.placement),
      reducer_(parameters_, groups.across),
      model_(model, parameters_.leaves(), setup.activations, groups.placement),
      passes_(model_, setup.micro_batch, setup.seed, setup.record && groups.recordable) {
  for (const auto& [name, leaf] : parameters_.leaves()) gradients_.emplace(name, leaf.grad());
  if (setup.streams > 0) passes_.carry(streams_.emplace(model_, setup.streams, groups).rows());
  if (shared_gradients_.count() == 0) passes_.reduce_with(reducer_);
  if (groups.traffic) passes_.count(*groups.traffic);
}

void StepRunner::accumulate(const data::Batch& batch) {
  parameters_.zero_gradients();
  local_ = passes_.run(batch);
  if (shared_gradients_.count() == 0) return;  // reduced beside the pass
  // Before ranks of other shares get them, tensor ranks add up what several of them have a part of.
  shared_gradients_.sum(gradients_);
  reducer_.finish();
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
  weights_changed();
}

}  // namespace dm::train
