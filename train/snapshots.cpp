#include "train/snapshots.h"

#include <algorithm>
#include <filesystem>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/log.h"

namespace dm::train {

Snapshots::Snapshots(const RunConfig& config, const Groups& groups, Collectives& save_group,
                     int64_t owned_bytes)
    : config_(config), groups_(groups) {
  const checkpoints::StoreConfig& options = config.checkpoint;
  if (options.memory_snapshot_every == 0) {
    if (groups.all.rank() == 0) checkpoints::forget_snapshots(config.train.run_dir);
    return;
  }
  store_.emplace(config.train.run_dir, options.memory_dir, save_group);
  const int64_t needed = store_->require_room(owned_bytes);
  log_info("snapshots every {} steps take {:.3f} GiB at most in {} of a host", options.memory_snapshot_every,
           static_cast<double>(needed) / (1 << 30), options.memory_dir);
}

std::optional<Meta> Snapshots::restore(const TakeState& take) {
  if (!store_) return std::nullopt;
  const std::optional<checkpoints::Summary> newest = store_->newest();
  const int64_t saved = newest_saved();
  if (!newest || newest->step <= saved) return std::nullopt;
  try {
    return take(*newest, [&](const auto& pieces) { store_->load(*newest, pieces); });
  } catch (const Error& error) {
    if (!checkpoints::condemns(error)) throw;
    // What it left half filled only a checkpoint fills again.
    DM_REQUIRE(
        saved >= 0, error.code(),
        "{}; the run's folder has no checkpoint to go on from instead. Remove {}/{} to begin at step 0",
        error.what(), config_.train.run_dir, checkpoints::kMemoryName);
    log_warn("the snapshot of step {} is not used: {}", newest->step, error.what());
    return std::nullopt;
  }
}

void Snapshots::begin_anew() {
  if (store_) store_->begin_anew();
}

void Snapshots::remove() {
  if (store_) store_->remove();
}

/// The newest step in the run's folder, as its name has it, -1 for none.
int64_t Snapshots::newest_saved() const {
  int64_t newest = -1;
  if (groups_.all.rank() == 0)
    for (const std::string& path : checkpoints::list(config_.train.run_dir))
      newest =
          std::max(newest, *checkpoints::parse_step_name(std::filesystem::path(path).filename().string()));
  return groups_.all.all_max(newest);
}

}  // namespace dm::train
