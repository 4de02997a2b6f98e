#pragma once
// What a run says of the GPU's memory: before it starts, and when there is not enough.

#include <cstdint>
#include <functional>
#include <string>

#include "core/collectives.h"
#include "model/config.h"
#include "train/plan/step_traffic.h"

namespace dm::train {

struct GpuMemoryPlan {
  const model::ModelConfig& model;
  RankPlace place;  // of this rank
  StepSize size;
  std::string rows_option;  // names the rows at once to the user
};

/// The model's policy of recompute; in place of auto the fastest that is predicted to fit, with room for what
/// a run does beside its steps, on every rank of `all`, which call it together. Logged.
std::string chosen_recompute(const GpuMemoryPlan& plan, Collectives& all);

/// Logs the predicted need beside the card's memory, as a warning where that is less.
void announce_memory(const GpuMemoryPlan& plan);

/// Runs `work`. When the GPU's memory runs out there: ExitCode::usage with the predicted parts, what the
/// allocator held, and options that should fit.
void with_memory_advice(const GpuMemoryPlan& plan, const std::function<void()>& work);

}  // namespace dm::train
