// The one moment at which a checkpoint comes to be.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "checkpoints/directory.h"
#include "checkpoints/names.h"
#include "checkpoints/writer.h"
#include "core/error.h"
#include "core/failpoint.h"
#include "core/files.h"

namespace dm::checkpoints {
namespace {

bool exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

/// Network file systems may report a failure for a rename that was done (the answer was lost, the request
/// repeated).
bool was_renamed_all_the_same(const std::string& temporary, const std::string& committed,
                              const std::string& commit) {
  if (exists(temporary) || !exists(committed)) return false;
  return read_regular(committed + "/" + kCommitName, 4096) == commit;
}

/// Swaps the new directory with the old one of the same name; the old one is then what `temporary` names.
void exchange(const std::string& temporary, const std::string& committed, const std::string& commit) {
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, committed.c_str(), RENAME_EXCHANGE) == 0) return;
  const int error = errno;
  DM_REQUIRE(error == EINVAL || error == ENOSYS, ExitCode::io, "{}: cannot be replaced: {}", committed,
             std::strerror(error));
  // Without an exchange there would be a moment with neither. The same content need not be replaced; other
  // content is refused.
  const bool same =
      exists(committed + "/" + kCommitName) && read_regular(committed + "/" + kCommitName, 4096) == commit;
  DM_REQUIRE(same, ExitCode::io,
             "{}: exists with other content, and this file system cannot exchange directories; move it away",
             committed);
}

}  // namespace

void publish(const std::string& temporary, const std::string& committed) {
  const std::string parent = std::filesystem::path(committed).parent_path();
  const std::string commit = read_regular(temporary + "/" + kCommitName, 4096);
  DM_FAILPOINT("save.before_rename");
  const bool replaces = exists(committed);
  if (replaces) {
    exchange(temporary, committed, commit);
  } else {
    try {
      rename_without_replacing(temporary, committed);
    } catch (const Error&) {
      if (!was_renamed_all_the_same(temporary, committed, commit)) throw;
    }
  }
  DM_FAILPOINT("save.after_rename");
  try {
    sync_directory(parent);
  } catch (const Error&) {
    // Whether the name survives a crash is unknown, so the save has failed: it must not be found later as if
    // it had not.
    const unsigned flags = replaces ? RENAME_EXCHANGE : 0;
    renameat2(AT_FDCWD, committed.c_str(), AT_FDCWD, temporary.c_str(), flags);
    throw;
  }
  std::error_code left;  // what was replaced; the next start removes what cannot be removed now
  if (replaces) std::filesystem::remove_all(temporary, left);
}

}  // namespace dm::checkpoints
