#include "launch/plan_failures.h"

#include <fmt/format.h>

namespace dm::launch {
namespace {

constexpr double kDay = 24 * 3600;

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{:.1f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

/// As a share of what is lost: saves, work done again, standing still.
void print_interval(const train::Recoveries& all, const train::FailureModel& model) {
  const train::SavePlace& disk = model.disk;
  const auto at = [&](double every) {
    train::SavePlace place = disk;
    place.every = std::max(every, disk.latency);
    return 100 * train::expected_goodput(all.mttf, place);
  };
  fmt::print(
      "  best interval of files alone {}: {:.2f} %; half of it {:.2f} %, twice {:.2f} %; Young {}, Daly {} "
      "for the time "
      "a save costs\n",
      duration(disk.every), at(disk.every), at(disk.every / 2), at(disk.every * 2),
      duration(train::young_interval(all.mttf, disk.blocked)),
      duration(train::daly_interval(all.mttf, disk.blocked)));
}

}  // namespace

void print_failures(const train::Plan& plan, const train::Cluster& cluster, int64_t runs) {
  const train::FailureConfig& f = cluster.failures;
  const train::Recoveries all = train::recoveries(plan, cluster);
  fmt::print(
      "\nFailures of {} GPUs: one in {} ({:.1f} h x {} / {}); {:.0f} days, {} runs with failures of their "
      "own\n"
      "  state {:.1f} GB; to or from files {} (the less of {:.0f} GB/s and {} x {:.2f} GB/s), memory of "
      "another node {} "
      "({:.2f} GB/s a rank)\n"
      "  a save costs {:.2f} steps of {:.0f} ms; a failure is over after {:.0f} s, the command starts in "
      "{:.0f} s + {} x "
      "{:.0f} ms\n",
      plan.place.world(), duration(all.mttf), f.mttf_hours, f.mttf_gpus, plan.place.world(), f.days, runs,
      all.state_bytes / 1e9, duration(all.file), f.filesystem_gbs, plan.place.world(), f.rank_gbs,
      duration(all.memory), f.memory_gbs, f.save_steps, all.step * 1e3, f.detect_seconds, f.start_seconds,
      plan.place.world(), f.start_rank_ms);
  print_interval(all, all.ways.front().model);
  fmt::print("  {:<32} {:>10} {:>10} {:>10} {:>9} {:>20} {:>13}\n", "", "files", "memory", "restart",
             "goodput", "nine runs of ten", "closed form");
  for (const train::Recovery& way : all.ways) {
    const train::FailureModel& m = way.model;
    const train::Goodput g = train::simulate(m, f.days * kDay, runs);
    fmt::print("  {:<32} {:>10} {:>10} {:>10} {:>8.2f}% {:>9.2f} .. {:>5.2f} % {:>13}\n", way.name,
               duration(m.disk.every), m.memory ? duration(m.memory->every) : "-",
               duration(m.memory ? m.memory->restart : m.disk.restart), 100 * g.mean, 100 * g.low,
               100 * g.high,
               m.memory ? "-" : fmt::format("{:.2f} %", 100 * train::expected_goodput(m.mttf, m.disk)));
  }
}

Json failures_json(const train::Plan& plan, const train::Cluster& cluster, int64_t runs) {
  const train::Recoveries all = train::recoveries(plan, cluster);
  Json json{{"gpus", plan.place.world()},
            {"mttf_seconds", all.mttf},
            {"state_bytes", all.state_bytes},
            {"runs", runs},
            {"ways", Json::array()}};
  for (const train::Recovery& way : all.ways) {
    const train::FailureModel& m = way.model;
    const train::Goodput g = train::simulate(m, cluster.failures.days * kDay, runs);
    Json one{{"name", way.name},
             {"save_seconds", m.disk.every},
             {"restart_seconds", m.memory ? m.memory->restart : m.disk.restart},
             {"goodput", g.mean},
             {"standard_error", g.standard_error},
             {"low", g.low},
             {"high", g.high},
             {"failures", g.failures}};
    if (m.memory) one["memory_save_seconds"] = m.memory->every;
    if (!m.memory) one["expected_goodput"] = train::expected_goodput(m.mttf, m.disk);
    json["ways"].push_back(one);
  }
  return json;
}

}  // namespace dm::launch
