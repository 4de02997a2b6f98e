#pragma once
// What rank 0 says about a run: a line on the terminal every few steps, TensorBoard's event files, a file for
// Prometheus when asked for, and RUN/metrics.jsonl, one JSON object a line:
//
//   {"step": 12, "loss": ..., "lr": ..., "gradient_norm": ..., "verdict": "update", ...}   each step:
//                                                            StepMetrics::fields; "sent_bytes" by axis
//   {"step": 12, "difference": [{"layer": 0, "lambda": ..., "norm_1": ..., ...}, ...]}     after some steps
//   {"step": 12, "eval": {...}}             EvalResult::to_json, before step 13
//   {"step": 12, "eval": {"tasks": {...}}}  TaskResults::to_json, likewise
//   {"step": 12, "save": {"wait_ms": ..., "seconds": ..., "bytes": ...}}                   once it is
//   committed
//
// Numbers that are not finite are null. On a resume the file is cut back to the step resumed from.
// RUN/attempts.jsonl says what each attempt was started with (monitor/attempt.h).

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "train/axis_traffic.h"
#include "train/monitor/attempt.h"
#include "train/monitor/progress_meter.h"
#include "train/monitor/prometheus.h"
#include "train/monitor/tensorboard.h"
#include "train/run_config.h"
#include "train/saver.h"
#include "train/state.h"
#include "train/step_guard.h"
#include "train/step_log.h"
#include "train/tasks/task_set.h"

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
  /// `speaks`: rank 0 of `ranks`. `resumed` is where this attempt starts.
  Reporter(const RunConfig& config, const Progress& resumed, int64_t ranks, bool speaks);

  void step(const StepReport& report);
  void difference(int64_t step, const std::vector<model::DifferenceStats>& layers);
  void evaluation(int64_t step, const EvalResult& result);
  void tasks(int64_t step, const TaskResults& results);
  void saved(const Saver::Outcome& save);
  /// Writes down how the attempt ended.
  void ended(const std::string& how);

 private:
  /// What only the rank that speaks has.
  struct Voice {
    Voice(const RunConfig& config, Attempt facts, int64_t resumed_step);

    Attempt attempt;
    StepLog metrics;
    ProgressMeter meter;
    std::optional<Tensorboard> tensorboard;
    std::optional<Prometheus> prometheus;
  };

  const RunConfig& config_;
  std::optional<Voice> voice_;
};

}  // namespace dm::train
