#pragma once
// What this rank owns, in host memory: weights, then each optimizer slot, as checkpoints and ledgers read and
// write them. On the CPU these are the arrays themselves, on a GPU copies.

#include <cstddef>
#include <vector>

#include "checkpoints/state.h"
#include "train/sharded_optimizer.h"

namespace dm::train {

class HostState {
 public:
  /// Both outlive this object.
  HostState(FlatParameters& parameters, const ShardedOptimizer& optimizer);

  /// The copies become what the rank owns, or the other way round. Nothing on the CPU.
  void pull();
  void push();

  /// 0: the weights, then the slots; FlatParameters::owned_count() elements each.
  const std::vector<void*>& ranges() const { return ranges_; }
  /// The same as a checkpoint sees it: each parameter under its own name, each slot as "SLOT/PARAMETER".
  std::vector<checkpoints::Piece> pieces() const;

 private:
  FlatParameters& parameters_;
  const ShardedOptimizer& optimizer_;
  std::vector<at::Tensor> device_, host_;
  std::vector<void*> ranges_;
};

}  // namespace dm::train
