#pragma once
// What the ranks of a run compare before it starts (dist/agreement.h).

#include <vector>

#include "dist/agreement.h"
#include "train/run_config.h"

namespace dm::launch {

/// The options, this program's bytes, the samples, the CPU, and on GPUs the GPU, its driver and NCCL.
std::vector<dist::Fact> start_facts(const train::RunConfig& config);

}  // namespace dm::launch
