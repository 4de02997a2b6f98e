#pragma once
// What is left in memory when a job is killed.

#include <string>
#include <vector>

namespace dm::dist {

/// Removes this user's `vader_segment.*` (Open MPI) and `diffmamba-h5-*` files in `folder` that no process
/// maps: those of killed jobs, memory that is never given back. Files younger than a minute stay, since a job
/// that starts right now may be about to map them. Returns what was removed; never throws.
std::vector<std::string> remove_orphaned_segments(const std::string& folder = "/dev/shm",
                                                  int minutes_old = 1);

}  // namespace dm::dist
