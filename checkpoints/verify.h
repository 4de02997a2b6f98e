#pragma once
// Checking committed directories, shared by the ranks that want to know.

#include <cstdint>
#include <string>
#include <vector>

namespace dm::checkpoints {

/// Share `part` of `parts` of what verify() checks: the files whose number falls to it, and every parts-th
/// chunk. Structure and manifest are checked in every part. An I/O error on reading a chunk is a problem of
/// the checkpoint; a failure to open a file (too many open, access refused) is not and throws.
std::vector<std::string> verify_part(const std::string& directory, int64_t part, int64_t parts);

/// Structure alone: COMMIT, manifest, the exact set of files with their sizes. Throws ExitCode::bad_data.
void check_structure(const std::string& directory);

}  // namespace dm::checkpoints
