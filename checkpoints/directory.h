#pragma once
// Opening what lies in a checkpoint directory without trusting it: real directories and regular files only,
// of the size they must have, never through a symbolic link.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace dm::checkpoints {

/// Runs what may throw std::filesystem's errors and throws ours, with their errno, instead.
template <class Work>
auto with_errno(const Work& work) {
  try {
    return work();
  } catch (const std::filesystem::filesystem_error& error) {
    throw_errno(error.code().value(), "access", error.path1().string(), __FILE__, __LINE__);
  }
}

/// Throws ExitCode::bad_data unless `directory` itself is a real directory.
void require_directory(const std::string& directory);

/// A regular file of exactly this size, for reading; `size_bytes` < 0: of any size.
File open_regular(const std::string& path, int64_t size_bytes = -1);

/// The whole of a small regular file, refused before allocation when it has more than limit_bytes.
std::string read_regular(const std::string& path, int64_t limit_bytes);

/// Creates a file that must not exist, writes it and fsyncs it.
void write_new_file(const std::string& path, std::string_view content);

/// What lies in a directory under the names that are `wanted`: listed as a whole, so that the caller may
/// remove it.
std::vector<std::filesystem::path> entries(const std::string& directory,
                                           const std::function<bool(const std::string& name)>& wanted);

/// The last component of a path, trailing slashes aside.
std::string base_name(const std::string& path);

}  // namespace dm::checkpoints
