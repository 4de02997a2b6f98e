// Gradients that are exchanged after every pass: the owned sums are those of one exchange at the end of the
// step, though buckets share their memory.

#include "train/scattered_gradients.h"

#include <gtest/gtest.h>

#include "core/forwarding_collectives.h"
#include "tests/support/mpi_environment.h"
#include "tests/train/layer_parameters.h"
#include "tests/train/layout.h"
#include "tests/train/tiny_run.h"
#include "train/ledger.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

constexpr int64_t kLayers = 7;

/// A parameter a layer, and one behind them; of uneven sizes.
std::vector<model::ParameterInfo> infos() {
  return layer_parameters(kLayers, [](int64_t depth) { return 100 + 67 * (depth % 3); });
}

/// What rank `rank` finds for element i of a parameter in a pass: whole numbers, so that no sum rounds.
double value(int64_t rank, int64_t pass, int64_t depth, int64_t i) {
  return static_cast<double>((i * 7 + depth * 5 + rank * 3 + pass * 11) % 23 - 11);
}

class Pass {
 public:
  Pass(const FlatParameters& parameters, int64_t rank, int64_t number)
      : parameters_(parameters), rank_(rank), number_(number) {}
  /// Adds to the first half of a parameter's gradient, or to the second.
  void add(int64_t depth, bool second) const {
    at::Tensor gradient = parameters_.leaves().at("p" + std::to_string(depth)).mutable_grad();
    const int64_t half = gradient.numel() / 2;
    for (int64_t i = second ? half : 0; i < (second ? gradient.numel() : half); ++i)
      gradient[i] += value(rank_, number_, depth, i);
  }
  /// As a backward pass does it: what is in front of a layer, its norm, is differentiated with the layer
  /// before it, and a tied head is part of the first parameter.
  void run(ScatteredGradients& exchange) const {
    exchange.pass_begins(false);
    add(0, true);
    add(kLayers, false);
    for (int64_t depth = kLayers - 1; depth >= 0; --depth) {
      add(depth + 1, true);
      add(depth, false);
      exchange.passed(depth);
    }
    exchange.finish();
  }

 private:
  const FlatParameters& parameters_;
  int64_t rank_, number_;
};

/// Rank r makes passes(r) of them.
template <class Passes>
void expect_sums(const FlatParameters& parameters, int64_t ranks, const Passes& passes) {
  for (const Slice& slice : parameters.slices(parameters.rank()))
    for (int64_t i = slice.begin; i < slice.end; ++i) {
      double sum = 0;
      for (int64_t rank = 0; rank < ranks; ++rank)
        for (int64_t pass = 0; pass < passes(rank); ++pass) sum += value(rank, pass, slice.parameter, i);
      ASSERT_EQ(parameters.owned_gradients()[slice.offset + i - slice.begin].item<double>(), sum)
          << "parameter " << slice.parameter << " element " << i;
    }
}

TEST(ScatteredGradients, OfAllPassesAreSummedWhateverTheRanksHave) {
  const auto group = test::mpi().make_world_group();
  if (group->size() == 1) GTEST_SKIP() << "alone a rank owns all gradients";
  FlatParameters parameters(infos(), DType::f64, *group, at::kCPU, /*bucket_bytes=*/1, /*zero=*/2);
  ASSERT_TRUE(parameters.scattered());
  ASSERT_EQ(parameters.buckets().size(), kLayers + 1u);
  constexpr int64_t kRounds = 3;
  const auto passes = [](int64_t rank) { return rank == 0 ? kRounds : kRounds - rank; };  // 3, 2, 1
  std::vector<size_t> completed;
  ScatteredGradients exchange(parameters, nullptr, kRounds,
                              [&](size_t bucket) { completed.push_back(bucket); });
  for (int64_t step = 0; step < 2; ++step) {
    parameters.zero_gradients();
    completed.clear();
    for (int64_t round = 0; round < kRounds; ++round) {
      if (round < passes(group->rank()))
        Pass(parameters, group->rank(), round).run(exchange);
      else
        exchange.finish();
    }
    expect_sums(parameters, group->size(), passes);
    std::vector<size_t> expected;
    for (int64_t pass = 0; pass < passes(group->rank()); ++pass)
      for (size_t bucket = kLayers + 1; bucket-- > 0;) expected.push_back(bucket);
    EXPECT_EQ(completed, expected);
    EXPECT_GE(exchange.exposed_ms(), 0);
  }
}

TEST(ScatteredGradients, AreHeldInTheMemoryOfFourBuckets) {
  const auto group = test::mpi().make_world_group();
  if (group->size() == 1) GTEST_SKIP() << "alone a rank owns all gradients";
  const FlatParameters parameters(infos(), DType::f64, *group, at::kCPU, 1, /*zero=*/2);
  const FlatLayout layout = flat_layout(parameters.parameters(), 8, group->size(), 1, /*scattered=*/true);
  int64_t widest = 0;
  for (const Bucket& bucket : layout.buckets) widest = std::max(widest, bucket.piece * group->size());
  EXPECT_LE(layout.gradient_count, 4 * widest);
  for (const auto& [name, leaf] : parameters.leaves()) {
    const auto* const begin = static_cast<const double*>(parameters.leaves().at("p0").grad().data_ptr());
    const auto* const mine = static_cast<const double*>(leaf.grad().data_ptr());
    EXPECT_GE(mine, begin) << name;
    EXPECT_LE(mine + leaf.numel(), begin + layout.gradient_count) << name;
  }
}

RunConfig stage_2(const std::string& folder, const std::string& name, int64_t steps) {
  RunConfig config = test::tiny_run(folder, name, steps);
  config.layout.zero = 2;
  config.train.bucket_mib = 1e-6;
  config.train.micro_batch = 2;
  config.train.telemetry_every = 0;
  return config;
}

void run(const RunConfig& config, const Groups& groups) {
  EXPECT_EQ(train(config, groups), ExitCode::ok);
  groups.all.barrier();
}

TEST(ScatteredGradients, TrainWhatOneRankTrainsAndGoOnBitForBit) {
  const auto world = test::mpi().make_world_group();
  const test::SharedFolder folder(*world);
  constexpr int64_t kSteps = 5, kStop = 2;
  RunConfig reference = test::tiny_run(folder.path(), "alone", kSteps);
  reference.train.telemetry_every = 0;
  if (world->rank() == 0) {
    const auto alone = make_single_process_collectives();
    run(reference, data_parallel(*alone));
  }
  world->barrier();
  const auto try_out = [&](const std::string& name, const Groups& groups) {
    const RunConfig whole = stage_2(folder.path(), name, kSteps);
    run(whole, groups);
    RunConfig parts = stage_2(folder.path(), name + "-parts", kSteps);
    parts.train.steps = kStop, parts.train.allow = {"steps"};
    run(parts, groups);
    parts.train.steps = kSteps;
    run(parts, groups);
    if (world->rank() == 0) {
      // Sums in another order, in float64, which Adam amplifies: the promise is 1e-8.
      for (const char* key : {"loss", "gradient_norm"})
        EXPECT_LE(test::relative_difference(test::metric(whole.train.run_dir, key),
                                            test::metric(reference.train.run_dir, key)),
                  1e-8)
            << name << " " << key;
      EXPECT_LE(test::relative_difference(test::final_weights(whole.train.run_dir),
                                          test::final_weights(reference.train.run_dir)),
                1e-8)
          << name;
      const auto difference =
          first_difference(read_ledger(whole.train.ledger), read_ledger(parts.train.ledger));
      EXPECT_FALSE(difference) << name << ": " << *difference;
    }
    world->barrier();
  };
  for (int64_t shard = 1; shard <= world->size(); ++shard) {
    if (world->size() % shard != 0) continue;
    test::Layout layout(1, 1, shard);
    try_out("shard" + std::to_string(shard), layout.groups());
  }
  if (world->size() % 2 != 0) return;
  for (const auto& [cp, tp] : {std::pair<int64_t, int64_t>{1, 2}, {2, 1}}) {
    test::Layout layout(cp, tp);
    try_out(layout.name(), layout.groups());
  }
}

}  // namespace
}  // namespace dm::train
