#include "train/step_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>

#include "core/error.h"
#include "core/log.h"

namespace dm::train {
namespace {

/// Bytes of the leading lines that stay.
int64_t kept_bytes(const std::string& path, const StepLog::StepOf& step_of, int64_t last_step) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  int64_t kept = 0;
  while (std::getline(file, line) && !file.eof()) {  // eof: the last line has no line feed
    const std::optional<int64_t> step = step_of(line);
    if (!step || *step > last_step) break;
    kept += static_cast<int64_t>(line.size()) + 1;
  }
  return kept;
}

}  // namespace

StepLog::StepLog(const std::string& path, const StepOf& step_of, int64_t last_step)
    : file_(File::open(path, O_RDWR | O_CREAT)), size_bytes_(kept_bytes(path, step_of, last_step)) {
  DM_SYS(ftruncate(file_.fd(), size_bytes_), "truncate", path);
}

void StepLog::append(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  try {
    file_.write_at(text.data(), text.size(), size_bytes_);
    size_bytes_ += static_cast<int64_t>(text.size());
    failing_ = false;
  } catch (const Error& error) {
    if (!failing_) log_warn("{}; lines are lost until it works again", error.what());
    failing_ = true;
    if (ftruncate(file_.fd(), size_bytes_) < 0)
      log_debug("{}: a partial line could not be cut off", file_.path());
  }
}

}  // namespace dm::train
