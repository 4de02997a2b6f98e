#pragma once
// How long a token of recurrent decoding takes, beside the time to read the weights and the carried state
// once, and to write the state.

#include "core/json.h"
#include "train/bench/step_bench.h"

namespace dm::train {

struct DecodeBenchResult {
  std::string device;
  int64_t parameters = 0, streams = 0;
  double median_ms = 0, p10_ms = 0, p90_ms = 0;  // of a step: one token of every stream
  double tokens_per_second = 0;                  // of all streams together
  int64_t weight_bytes = 0;                      // read in a step
  int64_t state_bytes = 0;                       // read and written in a step
  double floor_tokens_per_second = 0;            // 0: not known, and `missing` says why
  double share_of_floor = 0;
  std::string missing;
  int64_t graph_nodes = 0;
  int64_t peak_bytes = 0;
  std::vector<kernels::KernelTime> kernels;

  Json json() const;
};

/// Of `config` device, compute, rows (texts side by side), repetitions (of ten steps, timed together),
/// profile and terabytes are obeyed. The most likely token of every text is fed back, on the device.
DecodeBenchResult bench_decode(const model::ModelConfig& model, const StepBenchConfig& config);

}  // namespace dm::train
