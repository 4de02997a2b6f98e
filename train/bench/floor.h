#pragma once
// The rates that a bench's floors and its utilisation are shares of: as told, else those of the card. Of a
// card or a type that has not been measured there is no floor.

#include <string>

#include "model/cost.h"
#include "train/bench/step_bench.h"

namespace dm::train {

struct BenchRates {
  // 10^12 a second; 0: not known.
  double tflops, terabytes, peak_tflops;
  std::string missing;  // what is not known, why, and what helps; empty: all are

  bool known() const { return tflops > 0 && terabytes > 0; }
  /// Microseconds that so many operations and bytes take at least.
  double microseconds(double flops, double bytes) const;
};

/// `device`: as device_name() says it.
BenchRates bench_rates(const StepBenchConfig& config, const std::string& device);

/// Tokens a second when every stage takes the longer of its two times, the optimizer's bytes once a step.
double floor_tokens_per_second(const model::ModelConfig& model, const StepBenchConfig& config,
                               const BenchRates& rates);

}  // namespace dm::train
