#include "train/plan/recoveries.h"

#include <algorithm>

#include "model/cost.h"

namespace dm::train {
namespace {

constexpr double kStateBytes = 12;  // of a parameter: weight and both moments, in float32
constexpr double kGiga = 1e9;

SavePlace at_its_best(double mttf, SavePlace place) {
  place.every = best_interval(mttf, place);
  return place;
}

}  // namespace

Recoveries recoveries(const Plan& plan, const Cluster& cluster) {
  const FailureConfig& f = cluster.failures;
  const auto ranks = static_cast<double>(plan.place.world());
  Recoveries all;
  all.state_bytes = kStateBytes * static_cast<double>(model::parameter_count(plan.model));
  all.step = plan.time.total();
  all.mttf = f.mttf_hours * 3600 * static_cast<double>(f.mttf_gpus) / ranks;
  all.start = f.start_seconds + f.start_rank_ms * 1e-3 * ranks;
  all.file = all.state_bytes / (std::min(f.filesystem_gbs, ranks * f.rank_gbs) * kGiga);
  all.memory = all.state_bytes / (ranks * f.memory_gbs * kGiga);

  const double lost = f.save_steps * all.step, again = f.detect_seconds + f.relaunch_seconds + all.start;
  const SavePlace given_back{.blocked = lost,
                             .latency = all.file,
                             .restart = f.detect_seconds + 60 * f.scheduler_minutes + all.start + all.file};
  const SavePlace kept{.blocked = lost, .latency = all.file, .restart = again + all.file};
  const SavePlace memory{.blocked = lost, .latency = all.memory, .restart = again + all.memory};
  // With the memory of other nodes, files are for failures of several nodes alone.
  const double several = all.mttf / std::max(f.several_nodes, 1e-3);
  all.ways = {
      {"the scheduler starts it again", {all.mttf, 1, at_its_best(all.mttf, given_back), {}}},
      {"supervise, from files", {all.mttf, 1, at_its_best(all.mttf, kept), {}}},
      {"supervise, from memory",
       {all.mttf, f.several_nodes, at_its_best(several, kept), at_its_best(all.mttf, memory)}},
  };
  return all;
}

}  // namespace dm::train
