#pragma once
// A run as its files tell it: attempts.jsonl and metrics.jsonl (train/reporter.h), whether it trains, has
// ended or was killed.

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/language_model.h"
#include "train/monitor/attempt.h"
#include "train/monitor/step_metrics.h"

namespace dm::train {

struct RunHistory {
  std::string run_dir;
  std::vector<Attempt> attempts;
  std::vector<StepMetrics> steps;

  struct Difference {
    int64_t step;
    std::vector<model::DifferenceStats> layers;
  };
  std::vector<Difference> differences;

  struct Evaluation {
    int64_t step;
    Json values;  // of EvalResult::to_json, and TaskResults::to_json under "tasks"
  };
  std::vector<Evaluation> evaluations;

  struct Save {
    int64_t step;
    double wait_ms, seconds;
    int64_t bytes;
  };
  std::vector<Save> saves;

  int64_t skipped_steps() const;
  /// As the terminal last showed it, or would show it now; "" before the first step.
  std::string progress_line() const;
};

/// ExitCode::bad_data when there is no run in `run_dir`. Lines that cannot be read are passed over: the last
/// may be being written.
RunHistory read_history(const std::string& run_dir);

}  // namespace dm::train
