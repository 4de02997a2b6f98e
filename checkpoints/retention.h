#pragma once
// Which checkpoints stay, and how others go.

#include <cstdint>
#include <string>
#include <vector>

namespace dm::checkpoints {

/// The steps to delete: all but the last `keep_last`, the multiples of `keep_every` (0: none) and `protect`.
std::vector<int64_t> steps_to_delete(std::vector<int64_t> steps, int64_t keep_last, int64_t keep_every,
                                     int64_t protect);

/// Deletes under DIRECTORY what steps_to_delete says, after step `saved` has been committed. Each is renamed
/// first, so that no half-deleted directory has a committed name. Nothing is deleted unless what was just
/// saved has the right structure on disk (with one kept, Store::save has read all of it before).
void apply_retention(const std::string& directory, int64_t keep_last, int64_t keep_every, int64_t saved);

/// Removes what saves and deletions that were killed have left. The caller holds the lock.
void remove_leftovers(const std::string& run_directory);

}  // namespace dm::checkpoints
