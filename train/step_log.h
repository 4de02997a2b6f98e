#pragma once
// A text file that grows by lines, each belonging to a step, and is cut back when a run resumes from an
// earlier step: the ledger and metrics.jsonl.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "train/appended_file.h"

namespace dm::train {

class StepLog {
 public:
  /// The step a line belongs to; nullopt for a line that cannot be read.
  using StepOf = std::function<std::optional<int64_t>(std::string_view line)>;

  /// Opens or creates `path` and cuts it at its first line that belongs to a step after `last_step`, cannot
  /// be read, or lacks its line feed (the mark of a process killed while writing).
  StepLog(const std::string& path, const StepOf& step_of, int64_t last_step);

  /// The line comes without its line feed.
  void append(std::string_view line) { file_.append(std::string(line) + "\n"); }

 private:
  AppendedFile file_;
};

}  // namespace dm::train
