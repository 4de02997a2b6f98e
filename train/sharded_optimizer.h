#pragma once
// The optimizer's state for the range of weights that this rank owns (ZeRO stage 1): slots exist once over
// all ranks.

#include <memory>
#include <string>
#include <vector>

#include "train/flat_parameters.h"
#include "train/optimizer.h"

namespace dm::train {

class ShardedOptimizer {
 public:
  /// Slots are zero. `parameters` outlives this object.
  ShardedOptimizer(const OptimizerConfig& config, FlatParameters& parameters);

  /// One update from the reduced gradients; the new weights are on their way to all ranks
  /// (FlatParameters::gather_weights).
  void update(double lr, double grad_scale);

  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

  const std::vector<std::string>& slot_names() const { return names_; }
  /// Of the owned range, [FlatParameters::owned_count()] each.
  const std::vector<at::Tensor>& slots() const { return slots_; }

 private:
  FlatParameters& parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> slots_;        // [owned_count] each
  std::unique_ptr<RangeUpdate> on_gpu_;  // where the parameters are on one
  int64_t updates_ = 0;
};

}  // namespace dm::train
