#pragma once
// Checking committed directories, shared by the ranks that want to know.

#include <cstdint>
#include <string>
#include <vector>

namespace dm::checkpoints {

/// Share `part` of `parts` of what verify() checks: the files whose number falls to it, and every parts-th
/// chunk. Structure and manifest are checked in every part. Throws what does not speak against the checkpoint
/// (condemns, store.h).
struct Problems {
  std::vector<std::string> lines;
  bool of_device = false;  // some of them: it could not be read
};
Problems verify_part(const std::string& directory, int64_t part, int64_t parts);

/// Makes the next read of every file of a committed directory come from the device.
void forget_cached(const std::string& directory);

/// Structure alone: COMMIT, manifest, the exact set of files with their sizes. Throws ExitCode::bad_data.
void check_structure(const std::string& directory);

}  // namespace dm::checkpoints
