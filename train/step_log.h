#pragma once
// A text file that grows by lines, each belonging to a step, and is cut back when a run resumes from an
// earlier step: the ledger and metrics.jsonl.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/files.h"

namespace dm::train {

class StepLog {
 public:
  /// The step a line belongs to; nullopt for a line that cannot be read.
  using StepOf = std::function<std::optional<int64_t>(std::string_view line)>;

  /// Opens or creates `path` and cuts it at its first line that belongs to a step after `last_step`, cannot
  /// be read, or lacks its line feed (the mark of a process killed while writing).
  StepLog(const std::string& path, const StepOf& step_of, int64_t last_step);

  /// Hands the line (without line feed) to the operating system, whole or not at all. When that fails, on a
  /// full disk say, it is reported once and the line is lost: a log is no reason to end a run.
  void append(std::string_view line);

 private:
  File file_;
  int64_t size_bytes_ = 0;
  bool failing_ = false;
};

}  // namespace dm::train
