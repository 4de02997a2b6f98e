#pragma once
// The kernels of a profiled step by the stage of the cost model that they carry out, each beside its floor.

#include <string>
#include <vector>

#include "core/json.h"
#include "kernels/device/profile.h"
#include "train/bench/floor.h"

namespace dm::train {

struct StageTime {
  std::string stage;  // "conv forward"; "everything else" for kernels that no stage names
  int64_t calls = 0;
  double microseconds = 0;
  double floor_microseconds = 0;  // the stage once, whatever is computed again; 0: none, or not known
  Json json() const;
};

/// Longest first.
std::vector<StageTime> stage_times(const std::vector<kernels::KernelTime>& kernels,
                                   const model::ModelConfig& model, const StepBenchConfig& config,
                                   const BenchRates& rates);

}  // namespace dm::train
