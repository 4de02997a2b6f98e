#include "train/step_log.h"

#include <fstream>

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
    : file_(path, kept_bytes(path, step_of, last_step)) {}

}  // namespace dm::train
