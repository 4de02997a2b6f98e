// Bytes of real steps beside their prediction where the grid of tests/parity does not reach: the state cut
// within groups of ranks, and rows of two lengths.

#include <gtest/gtest.h>

#include "tests/train/layout.h"
#include "tests/train/tiny_model.h"
#include "train/parity.h"

namespace dm::train {
namespace {

ParityRun steps(const Groups& groups, int64_t rows, int64_t length) {
  ParityConfig config;
  config.rows = rows, config.length = length, config.steps = 2;
  ParityRun run = run_parity_steps(test::tiny_model(), config, "f64", at::kCPU, groups);
  EXPECT_EQ(run.not_planned, "");
  return run;
}

TEST(StepTraffic, IsAsPlannedHoweverTheStateIsCut) {
  const int64_t world = test::mpi().world();
  for (int64_t shard = 1; shard <= world; ++shard) {
    if (world % shard != 0) continue;
    test::Layout layout(1, 1, shard);
    const AxisTraffic traffic = steps(layout.groups(), world + 1, 13).traffic;
    EXPECT_EQ(traffic.data.count(Operation::reduce_scatter).bytes > 0, shard > 1) << shard;
    EXPECT_EQ(traffic.data.count(Operation::all_reduce).bytes > 0, shard < world) << shard;
    EXPECT_GT(traffic.control.sent(), 0);
  }
}

TEST(StepTraffic, OfTheContextAxisDoesNotGrowWithTheRows) {
  test::Layout layout(test::mpi().world(), 1);
  const AxisTraffic brief = steps(layout.groups(), 3, 17).traffic,
                    lengthy = steps(layout.groups(), 3, 91).traffic,
                    wide = steps(layout.groups(), 6, 17).traffic;
  EXPECT_EQ(brief.context, lengthy.context);
  EXPECT_EQ(brief.data, lengthy.data);
  EXPECT_EQ(wide.context.sent(), 2 * brief.context.sent());
  EXPECT_GT(brief.context.sent(), 0);  // of every rank: the first sends going forward, the last going back
}

}  // namespace
}  // namespace dm::train
