#pragma once
// One training run on this rank, from the first step or from the newest checkpoint in its folder, to its end
// or to a signal. docs/training.md says what a step does, what is saved where, and what a resume compares.

#include "core/exit_code.h"
#include "train/groups.h"
#include "train/run_config.h"

namespace dm::train {

/// All ranks call it together. The config is resolved (RunConfig::resolve_and_validate); with `device` cuda
/// the rank's GPU is in use already (kernels::use_gpu).
///
/// ok: the run has reached its end. saved: a signal (core/signals.h) asked to stop; the state is in a
/// checkpoint. Throws Error otherwise; an error on one rank alone must end the job
/// (dist::Environment::abort).
ExitCode train(const RunConfig& config, const Groups& groups);

}  // namespace dm::train
