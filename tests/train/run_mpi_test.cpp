// Whole runs over ranks: one function whatever their number, the same bits at the same number, and resuming.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <regex>

#include "core/files.h"
#include "core/forwarding_collectives.h"
#include "tests/support/mpi_environment.h"
#include "tests/train/tiny_run.h"
#include "train/evaluator.h"
#include "train/ledger.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

using test::SharedFolder;
using test::tiny_run;

/// Training in float64 amplifies a rounding error of 1e-16 by some orders over 50 steps; the promise is 1e-8.
constexpr double kPromise = 1e-8;

void run(const RunConfig& config, Collectives& group) {
  EXPECT_EQ(train(config, data_parallel(group)), ExitCode::ok);
  group.barrier();
}

/// The same run on rank 0 alone, while the others wait.
void run_alone(const RunConfig& config, Collectives& group) {
  const auto alone = make_single_process_collectives();
  if (group.rank() == 0) run(config, *alone);
  group.barrier();
}

void expect_same_function(const RunConfig& config, const RunConfig& reference) {
  const std::string &dir = config.train.run_dir, &reference_dir = reference.train.run_dir;
  EXPECT_LE(test::relative_difference(test::metric(dir, "loss"), test::metric(reference_dir, "loss")),
            kPromise);
  EXPECT_LE(test::relative_difference(test::metric(dir, "gradient_norm"),
                                      test::metric(reference_dir, "gradient_norm")),
            kPromise);
  EXPECT_LE(test::relative_difference(test::final_weights(dir), test::final_weights(reference_dir)),
            kPromise);
  const auto difference = first_difference(read_ledger(reference.train.ledger),
                                           read_ledger(config.train.ledger), /*samples_only=*/true);
  EXPECT_FALSE(difference) << *difference;
}

TEST(Run, ManyRanksComputeWhatOneComputes) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  const RunConfig reference = tiny_run(folder.path(), "alone", 50),
                  config = tiny_run(folder.path(), "together", 50);
  run_alone(reference, *group);
  run(config, *group);  // 5 rows on 3 ranks: 1, 2 and 2
  expect_same_function(config, reference);

  const std::vector<double> clip = test::metric(config.train.run_dir, "clip"),
                            loss = test::metric(config.train.run_dir, "loss");
  ASSERT_EQ(clip.size(), 50u);
  EXPECT_GE(std::count_if(clip.begin(), clip.end(), [](double c) { return c < 1; }),
            25);                               // clipping was put to the test
  EXPECT_LT(loss.back(), loss.front() - 0.5);  // and something was learnt
}

TEST(Run, Float32FollowsToAThousandth) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig reference = tiny_run(folder.path(), "alone", 50),
            config = tiny_run(folder.path(), "together", 50);
  reference.train.dtype = config.train.dtype = "f32";
  run_alone(reference, *group);
  run(config, *group);
  const std::vector<double> loss = test::metric(config.train.run_dir, "loss"),
                            expected = test::metric(reference.train.run_dir, "loss");
  ASSERT_EQ(loss.size(), expected.size());
  for (size_t step = 0; step < loss.size(); ++step) EXPECT_NEAR(loss[step], expected[step], 1e-3) << step;
}

TEST(Run, RanksWithoutRowsTakePart) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig reference = tiny_run(folder.path(), "alone", 10),
            config = tiny_run(folder.path(), "together", 10);
  reference.train.global_batch = config.train.global_batch = 2;  // on 3 ranks: 0, 1 and 1
  run_alone(reference, *group);
  run(config, *group);
  expect_same_function(config, reference);
}

TEST(Run, MaskedTargetsAreCountedOverAllRanks) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig reference = tiny_run(folder.path(), "alone", 10),
            config = tiny_run(folder.path(), "together", 10);
  reference.train.mask_boundary_loss = config.train.mask_boundary_loss = true;
  run_alone(reference, *group);
  run(config, *group);
  expect_same_function(config, reference);
  const std::vector<double> targets = test::metric(config.train.run_dir, "targets");
  EXPECT_EQ(targets, test::metric(reference.train.run_dir, "targets"));
  EXPECT_LT(*std::min_element(targets.begin(), targets.end()), 60);
}

/// A NaN in the gradient of one rank, at step 3.
class PoisonedStep final : public ForwardingCollectives {
 public:
  PoisonedStep(Collectives& inner, int64_t rank) : ForwardingCollectives(inner), rank_(rank) {}
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    if (++steps_ == 3 && rank() == rank_)
      static_cast<double*>(const_cast<void*>(input))[7] = std::numeric_limits<double>::quiet_NaN();
    return ForwardingCollectives::reduce_scatter(input, output, count, dtype, op);
  }

 private:
  int64_t rank_;
  int64_t steps_ = 0;
};

TEST(Run, OneRanksNanSkipsOneStepOnAllRanks) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  const RunConfig reference = tiny_run(folder.path(), "alone", 6),
                  config = tiny_run(folder.path(), "together", 6);
  const auto alone = make_single_process_collectives();
  PoisonedStep poisoned_alone(*alone, 0), poisoned(*group, group->size() - 1);
  if (group->rank() == 0) run(reference, poisoned_alone);
  group->barrier();
  setenv("DM_LOG", "warn", 1);  // for the file, which says where it began
  run(config, poisoned);
  setenv("DM_LOG", "error", 1);
  EXPECT_LE(test::relative_difference(test::final_weights(config.train.run_dir),
                                      test::final_weights(reference.train.run_dir)),
            kPromise);
  const std::vector<double> norms = test::metric(config.train.run_dir, "gradient_norm");
  ASSERT_EQ(norms.size(), 6u);
  for (size_t step = 1; step <= 6; ++step) EXPECT_EQ(std::isfinite(norms[step - 1]), step != 3) << step;
  const auto ledger = read_ledger(config.train.ledger);
  EXPECT_EQ(ledger[2].state, ledger[1].state);  // nothing moved
  EXPECT_NE(hex(ledger[3].state), hex(ledger[2].state));
  if (group->rank() == 0) {
    const std::string log = read_file(config.train.run_dir + "/logs/rank-00000.log", 1 << 20);
    for (int64_t rank = 0; rank < group->size(); ++rank) {
      const char* what = rank == group->size() - 1 ? "gradient of backbone.embedding"
                                                   : "its own weights and gradient finite";
      EXPECT_TRUE(std::regex_search(
          log, std::regex(fmt::format("rank {}: loss of its rows [0-9.]+, {}", rank, what))))
          << log;
    }
  }
  group->barrier();
}

TEST(Run, AccumulationChangesRoundingOnly) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig two = tiny_run(folder.path(), "two", 20), five = tiny_run(folder.path(), "five", 20);
  two.train.micro_batch = 2;  // 5 rows: 2, 2 and 1
  five.train.micro_batch = 5;
  run(two, *group);
  run(five, *group);
  expect_same_function(two, five);
}

TEST(Run, RepeatsBitForBit) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  for (const char* dtype : {"f32", "f64"}) {
    RunConfig first = tiny_run(folder.path(), std::string("first-") + dtype, 15);
    RunConfig second = tiny_run(folder.path(), std::string("second-") + dtype, 15);
    first.train.dtype = second.train.dtype = dtype;
    if (group->size() == 1)
      second.train.threads = 2;  // our kernels promise as much, and LibTorch keeps it at this size
    run(first, *group);
    run(second, *group);
    const auto difference =
        first_difference(read_ledger(first.train.ledger), read_ledger(second.train.ledger));
    EXPECT_FALSE(difference) << dtype << ": " << *difference;
  }
}

TEST(Run, SplitAtEveryStepIsTheUninterruptedRun) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig whole = tiny_run(folder.path(), "whole", 10);
  whole.train.spike_window = 4;  // so that the window's state matters
  whole.train.spike_sigma = 1;
  run(whole, *group);
  const std::vector<LedgerLine> expected = read_ledger(whole.train.ledger);
  for (int64_t stop = 1; stop <= 8; ++stop) {
    RunConfig part = whole;
    part.train.run_dir = folder.path() + "/split" + std::to_string(stop);
    part.train.ledger = part.train.run_dir + ".ledger";
    part.train.steps = stop;
    run(part, *group);
    part.train.steps = 10;
    run(part, *group);
    const auto difference = first_difference(expected, read_ledger(part.train.ledger));
    EXPECT_FALSE(difference) << "split after step " << stop << ": " << *difference;
    EXPECT_EQ(test::metric(part.train.run_dir, "loss"), test::metric(whole.train.run_dir, "loss"));
  }
}

TEST(Run, FewerRanksEachTimeLoseAndRepeatNoSample) {
  const auto world = test::mpi().make_world_group();
  const SharedFolder folder(*world);
  for (const char* order : {"shuffled", "streams"}) {
    RunConfig reference = tiny_run(folder.path(), std::string("alone-") + order, 12),
              shrinking = tiny_run(folder.path(), std::string("shrinking-") + order, 12);
    reference.data.order = shrinking.data.order = order;  // in streams, rows go to other ranks, state and all
    run_alone(reference, *world);
    for (int64_t ranks = world->size(), steps = 4; ranks >= 1; --ranks, steps += 4) {
      const auto group = test::mpi().make_group(world->rank() < ranks ? 0 : 1);
      shrinking.train.steps = ranks == 1 ? 12 : steps;
      if (world->rank() < ranks) run(shrinking, *group);
      world->barrier();
    }
    expect_same_function(shrinking, reference);
  }
}

/// Steps over pieces of a stream, which carry their state, see what one step over the whole stream sees.
TEST(Run, PiecesOfAStreamHaveTheLossOfTheStream) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  constexpr int64_t kPieces = 6;
  const auto configured = [&](const char* name, int64_t steps, int64_t length) {
    RunConfig config = tiny_run(folder.path(), name, kPieces);
    config.train.steps = steps;
    config.model.dropout = config.model.embedding_dropout = config.model.head_dropout = 0;
    config.optimizer.lr = 0;
    config.schedule.warmup = 0;
    config.train.global_batch = 1;
    config.train.length = length;
    config.data.order = "streams";
    return config;
  };
  const RunConfig whole = configured("whole", 1, kPieces * 12), pieces = configured("pieces", kPieces, 12);
  for (const RunConfig& config : {whole, pieces}) run_alone(config, *group);
  const std::vector<double> expected = test::metric(whole.train.run_dir, "loss"),
                            found = test::metric(pieces.train.run_dir, "loss");
  ASSERT_EQ(found.size(), static_cast<size_t>(kPieces));
  double sum = 0;
  for (const double loss : found) sum += loss;
  EXPECT_NEAR(sum / kPieces, expected.at(0), 1e-12);
}

TEST(Run, AStepThatIsNotFiniteLeavesNoState) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig sound = tiny_run(folder.path(), "sound", 5), poisoned = tiny_run(folder.path(), "poisoned", 5);
  for (RunConfig* config : {&sound, &poisoned}) config->data.order = "streams", config->optimizer.lr = 0;
  PoisonedStep gradient(*group, 0);  // of the third step; what it hands on would be sound here
  run(sound, *group);
  run(poisoned, gradient);
  const std::vector<double> expected = test::metric(sound.train.run_dir, "loss"),
                            found = test::metric(poisoned.train.run_dir, "loss");
  ASSERT_EQ(found.size(), 5u);
  for (size_t step = 0; step < 3; ++step) EXPECT_EQ(found[step], expected[step]) << step;
  EXPECT_GT(std::abs(found[3] - expected[3]), 1e-6);  // its rows begin anew
}

TEST(Run, GrowsFromOneRank) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  const RunConfig reference = tiny_run(folder.path(), "alone", 8);
  run_alone(reference, *group);
  RunConfig growing = tiny_run(folder.path(), "growing", 4);
  run_alone(growing, *group);
  growing.train.steps = 8;
  run(growing, *group);
  expect_same_function(growing, reference);
}

TEST(Evaluate, EveryLayoutGivesOneResult) {
  const auto group = test::mpi().make_world_group();
  const SharedFolder folder(*group);
  RunConfig config = tiny_run(folder.path(), "run", 4);
  config.eval.eval_data = folder.path() + "/data";
  config.train.eval_every = 2;
  RunConfig alone = config;
  alone.train.run_dir += "-alone";
  run(config, *group);
  run_alone(alone, *group);
  std::vector<double> tokens, nats;
  for (const std::string& dir : {config.train.run_dir, alone.train.run_dir}) {
    std::ifstream file(dir + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const Json json = parse_json(line, dir);
      if (!json.contains("eval")) continue;
      tokens.push_back(json["eval"]["tokens"].get<double>());
      nats.push_back(json["eval"]["nats_per_token"].get<double>());
    }
  }
  const auto targets = static_cast<double>(data::open_dataset(config.eval.eval_data)->token_count() - 1);
  EXPECT_EQ(tokens, std::vector<double>(4, targets));  // before step 3 and at the end, twice
  ASSERT_EQ(nats.size(), 4u);
  EXPECT_NEAR(nats[0], nats[2], kPromise);
  EXPECT_NEAR(nats[1], nats[3], kPromise);
}

}  // namespace
}  // namespace dm::train
