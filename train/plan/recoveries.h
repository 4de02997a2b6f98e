#pragma once
// The ways in which a planned run can go on after a failure, with what each costs on a cluster.

#include <string>
#include <vector>

#include "train/plan/failures.h"
#include "train/plan/planner.h"

namespace dm::train {

struct Recovery {
  std::string name;
  FailureModel model;  // saves at the intervals that are best for it
};

struct Recoveries {
  double state_bytes = 0;  // of a save: weights and moments
  double step = 0;         // seconds
  double mttf = 0;         // seconds, of all GPUs together
  double start = 0;        // seconds from a command to its first step, without the state
  double file = 0;         // seconds to write or read the state in the file system
  double memory = 0;       // seconds to put it into the memory of two nodes, or to fetch it
  std::vector<Recovery> ways;
};

Recoveries recoveries(const Plan& plan, const Cluster& cluster);

}  // namespace dm::train
