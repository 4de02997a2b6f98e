#pragma once
// What this rank owns, in host memory: weights, then each optimizer slot, as checkpoints and ledgers read and
// write them.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/state.h"
#include "kernels/device/gpu.h"
#include "train/sharded_optimizer.h"

namespace dm::train {

enum class PiecePurpose { store, fill };
/// What a rank owns of each parameter, in an array like FlatParameters::owned_weights() at `range` in host
/// memory, as PREFIX + parameter.
std::vector<checkpoints::Piece> pieces_of(const FlatParameters& parameters, PiecePurpose purpose,
                                          const std::string& prefix, void* range);

class HostState {
 public:
  /// On a GPU the host memory is a copy, pinned. On the CPU it is the arrays themselves, or a copy that
  /// training does not touch.
  enum class OnCpu { the_arrays, a_copy };

  /// Both outlive this object.
  HostState(FlatParameters& parameters, const ShardedOptimizer& optimizer, OnCpu on_cpu);

  /// The copies become what the rank owns. begin_pull() returns while a GPU is still copying: what the
  /// current stream is given after hold_updates() waits for that, and finish_pull() returns when it is done.
  void pull() { begin_pull(), finish_pull(); }
  void begin_pull();
  void hold_updates();
  void finish_pull();  // from any thread
  /// What the rank owns becomes the copies.
  void push();

  int64_t size_bytes() const;
  /// 0: the weights, then the slots; FlatParameters::owned_count() elements each.
  const std::vector<void*>& ranges() const { return ranges_; }
  /// The same as a checkpoint sees it: each parameter under its own name, each slot as "SLOT/PARAMETER". To
  /// be stored: each element on one rank. To be filled: all that this rank owns.
  using Purpose = PiecePurpose;
  std::vector<checkpoints::Piece> pieces(Purpose purpose) const;

 private:
  bool on_gpu() const { return !owned_.front().is_cpu(); }

  FlatParameters& parameters_;
  const ShardedOptimizer& optimizer_;
  std::vector<at::Tensor> owned_, host_;
  std::vector<void*> ranges_;  // of host_
  std::optional<kernels::SideCopies> copies_;
};

}  // namespace dm::train
