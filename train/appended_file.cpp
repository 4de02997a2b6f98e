#include "train/appended_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"

namespace dm::train {

AppendedFile::AppendedFile(const std::string& path, int64_t kept_bytes)
    : file_(File::open(path, O_RDWR | O_CREAT)), size_bytes_(kept_bytes) {
  DM_SYS(ftruncate(file_.fd(), size_bytes_), "truncate", path);
}

void AppendedFile::append(std::string_view piece) {
  try {
    file_.write_at(piece.data(), piece.size(), size_bytes_);
    size_bytes_ += static_cast<int64_t>(piece.size());
    failing_ = false;
  } catch (const Error& error) {
    if (!failing_) log_warn("{}; lines are lost until it works again", error.what());
    failing_ = true;
    if (ftruncate(file_.fd(), size_bytes_) < 0)
      log_debug("{}: a partial line could not be cut off", file_.path());
  }
}

}  // namespace dm::train
