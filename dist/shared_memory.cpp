#include "dist/shared_memory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>

namespace dm::dist {
namespace {

namespace fs = std::filesystem;

/// Open MPI's segments, and the files in memory that libhdf5 has written to (core/h5_layout.cpp), which have
/// a name for some milliseconds.
bool is_leftover_name(std::string_view name) {
  return name.starts_with("vader_segment.") || name.starts_with("diffmamba-h5-");
}

/// Inodes that some process of this user maps. Other users' processes cannot map this user's segments.
std::set<uint64_t> mapped_inodes() {
  std::set<uint64_t> inodes;
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    std::ifstream maps(process.path() / "maps");
    // "7f.. - 7f.. rw-s 00000000 00:17 1234   /dev/shm/..."
    for (std::string range, mode, offset, device, rest; maps >> range >> mode >> offset >> device;) {
      uint64_t inode = 0;
      maps >> inode;
      std::getline(maps, rest);
      if (inode != 0) inodes.insert(inode);
    }
  }
  return inodes;
}

}  // namespace

std::vector<std::string> remove_orphaned_segments(const std::string& folder, int minutes_old) {
  struct Candidate {
    std::string path;
    uint64_t inode;
  };
  std::vector<Candidate> candidates;
  const auto young = std::chrono::system_clock::now() - std::chrono::minutes(minutes_old);
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    struct stat info {};
    const std::string path = entry->path().string();
    if (!is_leftover_name(entry->path().filename().string()) || lstat(path.c_str(), &info) != 0 ||
        !S_ISREG(info.st_mode) || info.st_uid != getuid() ||
        std::chrono::system_clock::from_time_t(info.st_mtime) > young)
      continue;
    candidates.push_back({path, info.st_ino});
  }
  std::vector<std::string> removed;
  if (candidates.empty()) return removed;
  const std::set<uint64_t> mapped = mapped_inodes();
  for (const Candidate& candidate : candidates)
    if (!mapped.contains(candidate.inode) && ::unlink(candidate.path.c_str()) == 0)
      removed.push_back(candidate.path);
  return removed;
}

}  // namespace dm::dist
