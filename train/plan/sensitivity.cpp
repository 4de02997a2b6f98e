#include "train/plan/sensitivity.h"

#include <fmt/format.h>

#include <utility>

namespace dm::train {
namespace {

struct Change {
  const char* name;
  double Cluster::*value;
  double factor;
  const char* how;
};
constexpr Change kChanges[] = {
    {"tflops", &Cluster::tflops, 2, "twice: less time to hide exchanges in"},
    {"link_gbs", &Cluster::link_gbs, 0.5, "half"},
    {"network_gbs", &Cluster::network_gbs, 0.5, "half"},
    {"operation_us", &Cluster::operation_us, 2, "twice"},
    {"link_us", &Cluster::link_us, 2, "twice"},
    {"network_us", &Cluster::network_us, 2, "twice"},
};

std::vector<Plan> planned_again(const std::vector<Plan>& plans, const Cluster& cluster) {
  std::vector<Plan> again;
  for (const Plan& plan : plans) {
    const RankPlace& p = plan.place;
    again.push_back(Planner({plan.model, cluster, plan.size}).plan(p.dp, p.cp, p.tp, p.shard));
  }
  return again;
}

}  // namespace

std::vector<Variation> sensitivity(const std::vector<Plan>& plans, const Cluster& cluster) {
  std::vector<Variation> all = {{"as assumed", plans}};
  for (const Change& change : kChanges) {
    Cluster other = cluster;
    other.*change.value *= change.factor;
    all.push_back({fmt::format("{} = {:g}, {}", change.name, other.*change.value, change.how),
                   planned_again(plans, other)});
  }
  Cluster other = cluster;
  other.contention = 1;
  all.push_back({"contention = 1: nothing gained by overlap", planned_again(plans, other)});
  return all;
}

}  // namespace dm::train
