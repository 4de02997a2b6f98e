#pragma once
// What `diffmamba plan --failures` prints.

#include "core/json.h"
#include "train/plan/recoveries.h"

namespace dm::launch {

/// The ways to go on after a failure, each simulated so many times.
void print_failures(const train::Plan& plan, const train::Cluster& cluster, int64_t runs);
Json failures_json(const train::Plan& plan, const train::Cluster& cluster, int64_t runs);

}  // namespace dm::launch
