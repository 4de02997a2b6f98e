// What failures cost, drawn against the closed form, the closed form against Young and Daly, and both as a
// plan uses them.

#include <gmock/gmock.h>

#include <cmath>

#include "model/cost.h"
#include "train/plan/recoveries.h"

namespace dm::train {
namespace {

constexpr double kMttf = 7.9 * 3600;

SavePlace place(double every, double blocked, double latency, double restart) {
  return {.every = every, .blocked = blocked, .latency = latency, .restart = restart};
}

TEST(FailurePlanTest, SavesThatTrainingWaitsForAreDalys) {
  for (const double every : {100.0, 1000.0, 20000.0})
    for (const double blocked : {1.0, 60.0, 600.0})
      for (const double restart : {0.0, 300.0}) {
        const double daly = kMttf * std::exp(restart / kMttf) * std::expm1((every + blocked) / kMttf);
        EXPECT_NEAR(expected_goodput(kMttf, place(every, blocked, 0, restart)), every / daly, 1e-12);
      }
}

TEST(FailurePlanTest, TheBestIntervalIsDalysWhereHisSeriesHolds) {
  for (const double blocked : {0.1, 1.0, 10.0, 60.0, 600.0}) {
    // Daly leaves out terms of (blocked / 2M)^(3/2) of the interval; restarts do not move the optimum.
    const double best = best_interval(kMttf, place(0, blocked, 0, 300));
    EXPECT_NEAR(best / daly_interval(kMttf, blocked), 1, std::pow(blocked / (2 * kMttf), 1.5) + 1e-4)
        << blocked;
    // Young's is larger by about the time that a save blocks.
    EXPECT_NEAR(young_interval(kMttf, blocked) - best, blocked, blocked / 2) << blocked;
  }
}

TEST(FailurePlanTest, TheBestIntervalIsTheBest) {
  for (SavePlace at : {place(0, 10, 0, 0), place(0, 1, 30, 400), place(0, 5, 3000, 100)}) {
    const double best = best_interval(kMttf, at);
    at.every = best;
    const double goodput = expected_goodput(kMttf, at);
    EXPECT_GE(best, at.latency - at.blocked);  // one save at a time
    for (const double factor : {0.5, 0.9, 1.1, 2.0}) {
      at.every = best * factor;
      if (at.every + at.blocked < at.latency) continue;
      EXPECT_LT(expected_goodput(kMttf, at), goodput) << factor;
    }
  }
}

TEST(FailurePlanTest, DrawnFailuresComeToTheClosedForm) {
  for (const SavePlace& at : {place(600, 10, 0, 300), place(900, 1, 120, 360), place(3000, 60, 2500, 30),
                              place(20000, 100, 100, 20000)}) {
    const Goodput drawn =
        simulate({.mttf = kMttf, .several_nodes = 1, .disk = at, .memory = {}}, 2000 * kMttf, 100);
    // Four standard errors, and what the ends of a run are off by: an interval and a restart of 2000 MTTFs.
    const double ends = (at.every + at.blocked + at.latency + at.restart) / (2000 * kMttf);
    EXPECT_NEAR(drawn.mean, expected_goodput(kMttf, at), 4 * drawn.standard_error + ends);
    EXPECT_LT(drawn.standard_error, 2e-3);
    EXPECT_NEAR(drawn.failures, 2000, 4 * std::sqrt(2000.0 / 100));  // Poisson
    EXPECT_LT(drawn.low, drawn.mean);
    EXPECT_GT(drawn.high, drawn.mean);
  }
}

TEST(FailurePlanTest, MemoryCountsWhereOneNodeIsLostOnly) {
  const SavePlace disk = place(7200, 0, 60, 400), memory = place(60, 0, 1, 50);
  const auto goodput = [&](double several) {
    return simulate({.mttf = kMttf, .several_nodes = several, .disk = disk, .memory = memory}, 500 * kMttf,
                    50);
  };
  const Goodput alone =
      simulate({.mttf = kMttf, .several_nodes = 1, .disk = disk, .memory = {}}, 500 * kMttf, 50);
  EXPECT_DOUBLE_EQ(goodput(1).mean, alone.mean);
  const Goodput never = goodput(0);
  EXPECT_NEAR(never.mean, expected_goodput(kMttf, memory), 4 * never.standard_error + 1e-4);
  EXPECT_GT(goodput(0.1).mean, goodput(0.5).mean);
  EXPECT_GT(goodput(0.5).mean, alone.mean);
}

TEST(FailurePlanTest, TheSameRunsAgain) {
  const FailureModel model{.mttf = kMttf, .several_nodes = 1, .disk = place(600, 1, 10, 300), .memory = {}};
  EXPECT_EQ(simulate(model, 30 * kMttf, 20).mean, simulate(model, 30 * kMttf, 20).mean);
  EXPECT_NE(simulate(model, 30 * kMttf, 20).low, simulate(model, 30 * kMttf, 20).high);
  const Goodput without = simulate(model, 1, 5);  // a second, in which next to nothing fails
  EXPECT_EQ(without.failures, 0);
  EXPECT_NEAR(without.mean, 600.0 / 601, 1e-12);
}

/// The month that docs/reliability.md shows.
TEST(FailurePlanTest, AMonthOnAThousandGpus) {
  model::ModelConfig model;
  model::apply_preset(model, "diffmamba2-6.9b");
  const Cluster cluster = Cluster::read(DM_RECIPES "/clusters/h100-400g.ini");
  const std::vector<Plan> plans =
      Planner({model, cluster, {.rows = 2048, .length = 2048, .micro_batch = 8, .activations = DType::bf16}})
          .best(1024);
  ASSERT_FALSE(plans.empty());
  const Recoveries all = recoveries(plans.front(), cluster);
  EXPECT_DOUBLE_EQ(all.mttf, kMttf);
  EXPECT_DOUBLE_EQ(all.state_bytes, 12.0 * static_cast<double>(model::parameter_count(model)));
  EXPECT_NEAR(all.file, all.state_bytes / 50e9, 1e-9);
  ASSERT_EQ(all.ways.size(), 3u);
  const double bars[] = {0.95, 0.99, 0.99};
  for (size_t i = 0; i < all.ways.size(); ++i)
    EXPECT_GE(simulate(all.ways[i].model, 30 * 86400.0, 100).mean, bars[i]) << all.ways[i].name;
}

}  // namespace
}  // namespace dm::train
