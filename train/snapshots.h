#pragma once
// The snapshots of a run in the memory of its hosts, where --memory-snapshot-every asks for them
// (checkpoints/memory_store.h).

#include <functional>
#include <optional>

#include "checkpoints/memory_store.h"
#include "train/groups.h"
#include "train/run_config.h"
#include "train/state.h"

namespace dm::train {

using checkpoints::LoadPieces;
/// Makes the state at a place that of the run, loaded by the second.
using TakeState = std::function<Meta(const checkpoints::Summary&, const LoadPieces&)>;

class Snapshots {
 public:
  /// Under the run's lock; `save_group` is that of the checkpoints, of which no save is in flight. Refuses
  /// hosts without room for what their ranks own, of which this one's is `owned_bytes`.
  Snapshots(const RunConfig& config, const Groups& groups, Collectives& save_group, int64_t owned_bytes);

  /// The newest snapshot, where it is newer than what the run's folder has, which is not read then. nullopt
  /// where there is none, or it is damaged and a checkpoint can take its place.
  std::optional<Meta> restore(const TakeState& take);
  /// The run goes on from its folder, or begins.
  void begin_anew();
  /// The run ends, and its folder has its state.
  void remove();

  bool due(int64_t step) const { return store_ && step % config_.checkpoint.memory_snapshot_every == 0; }
  /// Where due() says so.
  checkpoints::MemoryStore& store() { return *store_; }

 private:
  int64_t newest_saved() const;

  const RunConfig& config_;
  const Groups& groups_;
  std::optional<checkpoints::MemoryStore> store_;
};

}  // namespace dm::train
