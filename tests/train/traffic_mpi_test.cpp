// Bytes of real steps beside their prediction where the grid of tests/parity does not reach: the state cut
// within groups of ranks, and rows of two lengths; and bytes that are stored.

#include <gtest/gtest.h>

#include <array>

#include "tests/train/layout.h"
#include "tests/train/tiny_model.h"
#include "train/parity.h"
#include "train/plan/rank_memory.h"
#include "train/step_runner.h"

namespace dm::train {
namespace {

ParityRun steps(const Groups& groups, int64_t rows, int64_t length, int64_t zero = 1) {
  ParityConfig config;
  config.rows = rows, config.length = length, config.steps = 2, config.zero = zero;
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

/// Stage 2 exchanges gradients once a pass of the rank that has most: here 3, on all but one rank 2.
TEST(StepTraffic, IsAsPlannedWhereGradientsAreScattered) {
  const int64_t world = test::mpi().world();
  for (int64_t shard = 1; shard <= world; ++shard) {
    if (world % shard != 0) continue;
    test::Layout layout(1, 1, shard);
    const auto exchanged = [&](int64_t zero) {
      return steps(layout.groups(), 4 * world + 1, 13, zero).traffic.data;
    };
    const Traffic kept = exchanged(1), scattered = exchanged(2);
    const auto bytes = [](const Traffic& traffic, Operation operation) {
      return traffic.count(operation).bytes;
    };
    // Pieces are padded, smaller buckets more often.
    EXPECT_GE(bytes(scattered, Operation::reduce_scatter), 3 * bytes(kept, Operation::reduce_scatter));
    EXPECT_EQ(bytes(scattered, Operation::all_reduce) > 0, shard < world);
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

/// What ranks put into a checkpoint or snapshot, and the memory of their host that is asked for snapshots.
TEST(StoredBytes, AreAsPlanned) {
  const int64_t world = test::mpi().world();
  for (const bool streams : {false, true})
    for (const auto& [cp, tp, shard] :
         std::vector<std::array<int64_t, 3>>{{1, 1, 0}, {1, 1, 1}, {world, 1, 0}, {1, 2, 0}, {2, 1, 1}}) {
      if (world % (cp * tp) != 0) continue;
      test::Layout layout(cp, tp, shard);
      const Groups groups = layout.groups();
      const StepSize size{.rows = world + 1,
                          .length = 13,
                          .micro_batch = 2,
                          .weights = DType::f64,
                          .bucket_bytes = 1000,
                          .streams = streams};
      const StepRunner runner(test::tiny_model(), {},
                              {.weights = DType::f64,
                               .activations = at::kDouble,
                               .bucket_bytes = size.bucket_bytes,
                               .micro_batch = size.micro_batch,
                               .global_rows = size.rows,
                               .streams = streams},
                              groups);
      const RankPlace place = RankPlace::of(groups);
      const RankParameters parameters(test::tiny_model(), place.tp, place.tp_rank);
      EXPECT_EQ(runner.stored_bytes(), stored_bytes(test::tiny_model(), parameters, place, size))
          << layout.name() << " shard " << shard << (streams ? " streams" : "");
      const double all = groups.all.all_sum(static_cast<double>(runner.stored_bytes()));
      EXPECT_EQ(2 * all, static_cast<double>(snapshot_bytes(test::tiny_model(), place, size, world)));
    }
}

}  // namespace
}  // namespace dm::train
