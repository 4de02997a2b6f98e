#pragma once
// What becomes of plans when an assumption about the cluster is wrong.

#include <string>
#include <vector>

#include "train/plan/planner.h"

namespace dm::train {

struct Variation {
  std::string what;         // "link_gbs = 125, half"
  std::vector<Plan> plans;  // of the same layouts and policies
};

/// Every rate halved, every delay doubled, one after the other, and no gain from overlap at all; first the
/// plans as they are.
std::vector<Variation> sensitivity(const std::vector<Plan>& plans, const Cluster& cluster);

}  // namespace dm::train
