#pragma once
// One line on how a run stands, from what is measured of its steps: `train` shows it as it goes, `status`
// from the run's files.

#include <cstdint>
#include <string>

#include "train/monitor/attempt.h"
#include "train/monitor/step_metrics.h"

namespace dm::train {

class ProgressMeter {
 public:
  explicit ProgressMeter(const Attempt& attempt) : attempt_(attempt) {}

  /// Steps of one attempt, in order. True when the terminal is due a line: after the first one, and every
  /// `log_every` steps of the attempt's.
  bool add(const StepMetrics& metrics);

  /// Rates are those of the steps since the line before; ETA is that of the attempt. "" before any step.
  const std::string& line() const { return line_; }

 private:
  bool due() const;
  std::string text() const;
  double seconds_left() const;

  Attempt attempt_;
  StepMetrics last_;
  struct {
    double step_ms = 0, wait_ms = 0, exposed_ms = 0;
    int64_t steps = 0;
  } since_line_;
  std::string line_;
};

std::string hours_minutes_seconds(double seconds);

}  // namespace dm::train
