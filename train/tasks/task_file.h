#pragma once
// Items of evaluation tasks, one JSON object a line (docs/evaluation.md):
//
//   {"task": "hellaswag", "context": "...", "choices": [" one ending", " another", ...], "answer": 1}
//   {"task": "lambada", "context": "...", "target": " word"}
//
// A continuation is put behind the context as it stands, so it begins with its own space.

#include <cstdint>
#include <string>
#include <vector>

namespace dm::train {

struct TaskItem {
  std::string task;
  std::string context;
  std::vector<std::string> continuations;  // the choices, or the one target
  int64_t answer = 0;                      // the right one
  bool cloze = false;                      // whether it has a target instead of choices
};

/// ExitCode::bad_data with FILE:LINE for what is none.
std::vector<TaskItem> read_tasks(const std::string& path);

}  // namespace dm::train
