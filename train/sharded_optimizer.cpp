#include "train/sharded_optimizer.h"

namespace dm::train {

ShardedOptimizer::ShardedOptimizer(const OptimizerConfig& config, FlatParameters& parameters)
    : parameters_(parameters), optimizer_(make_optimizer(config)), names_(optimizer_->slots()) {
  for (size_t slot = 0; slot < names_.size(); ++slot)
    slots_.push_back(at::zeros_like(parameters.owned_weights()));
  if (parameters.device().is_cpu()) return;
  GpuRange range{parameters.owned_weights(), parameters.owned_gradients(), slots_, {}};
  for (const Slice& slice : parameters.slices(parameters.rank()))
    if (parameters.parameters()[static_cast<size_t>(slice.parameter)].info.decay)
      range.decayed.emplace_back(slice.offset, slice.offset + slice.count());
  on_gpu_ = optimizer_->on_gpu(range);
}

void ShardedOptimizer::update(double lr, double grad_scale) {
  // Where a rank has had no rows, no pass has waited for what it sent last.
  parameters_.settle();
  const UpdateStep step{.lr = lr, .grad_scale = grad_scale, .update = ++updates_};
  if (on_gpu_) {
    on_gpu_->run(step);
    return parameters_.gather_weights();
  }
  const at::Tensor weights = parameters_.owned_weights(), gradients = parameters_.owned_gradients();
  for (const Slice& slice : parameters_.slices(parameters_.rank())) {
    UpdatePiece piece{.dtype = parameters_.dtype(),
                      .weight = parameters_.at(weights.data_ptr(), slice.offset),
                      .gradient = parameters_.at(gradients.data_ptr(), slice.offset),
                      .slots = {},
                      .count = slice.count(),
                      .decay = parameters_.parameters()[static_cast<size_t>(slice.parameter)].info.decay};
    for (const at::Tensor& slot : slots_)
      piece.slots.push_back(parameters_.at(slot.data_ptr(), slice.offset));
    optimizer_->update(piece, step);
  }
  parameters_.gather_weights();
}

}  // namespace dm::train
