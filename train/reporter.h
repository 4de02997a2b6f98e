#pragma once
// What rank 0 says about a run: a line on the terminal every few steps, and RUN/metrics.jsonl, one JSON
// object a line:
//
//   {"step": 12, "loss": ..., "lr": ..., "gradient_norm": ..., "verdict": "update", ...}   each step
//   {"step": 12, "difference": [{"layer": 0, "lambda": ..., "norm_1": ..., ...}, ...]}     after some steps
//   {"step": 12, "eval": {...}} EvalResult::to_json, before step 13
//   {"step": 12, "save": {"wait_ms": ..., "seconds": ..., "bytes": ...}}                   once it is
//   committed
//
// Numbers that are not finite are null. On a resume the file is cut back to the step resumed from.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "train/axis_traffic.h"
#include "train/run_config.h"
#include "train/saver.h"
#include "train/state.h"
#include "train/step_guard.h"
#include "train/step_log.h"
#include "train/stopwatch.h"

namespace dm::train {

struct StepReport {
  Progress progress;  // after the step
  StepFacts facts;
  Verdict verdict;
  double lr;
  double clip;          // factor on the gradient, 1 when it was not clipped
  double step_seconds;  // from asking for the batch to the new weights
  double wait_ms;       // of them, waiting for data
  double exposed_ms;    // of them, waiting for other ranks' gradients and weights
  AxisTraffic traffic;  // what this rank exchanged in it, where that is counted
};

class Reporter {
 public:
  /// `speaks`: rank 0. `resumed` is where this attempt starts.
  Reporter(const RunConfig& config, const Progress& resumed, bool speaks);

  void step(const StepReport& report);
  void difference(int64_t step, const std::vector<model::DifferenceStats>& layers);
  void evaluation(int64_t step, const EvalResult& result);
  void saved(const Saver::Outcome& save);

 private:
  void terminal_line(const StepReport& report);
  std::string time_left(const Progress& progress) const;

  const RunConfig& config_;
  Progress resumed_;
  std::optional<StepLog> metrics_;
  Stopwatch attempt_;
  struct {
    double seconds = 0, wait_ms = 0, exposed_ms = 0;
    int64_t steps = 0;
  } since_line_;
};

}  // namespace dm::train
