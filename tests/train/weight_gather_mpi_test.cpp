// Updated weights come while the forward pass runs, which waits for each bucket where it reads it and for
// none before; whoever else reads waits for all. Gathers are late here: nothing of one is there before it is
// waited for, so that a wait left out is a difference in the ledger.

#include "train/weight_gather.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/forwarding_collectives.h"
#include "tests/support/mpi_environment.h"
#include "tests/train/layer_parameters.h"
#include "tests/train/tiny_model.h"
#include "tests/train/tiny_run.h"
#include "train/ledger.h"
#include "train/made_up_rows.h"
#include "train/step_runner.h"
#include "train/trainer.h"
#include "train/weights_vote.h"

namespace dm::train {
namespace {

/// What the ranks gather is there when it is waited for. The gathers of a step are counted from 0.
class LateGathers final : public ForwardingCollectives {
 public:
  explicit LateGathers(Collectives& inner, int64_t lost = -1) : ForwardingCollectives(inner), lost_(lost) {}

  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    if (waited == started) waited = started = 0;
    const auto bytes = static_cast<size_t>(count * size_bytes(dtype));
    auto late = std::make_unique<Late>(*this, started++, input, output, bytes);
    late->pending = ForwardingCollectives::all_gather(input, late->all.data(), count, dtype);
    return late;
  }

  int64_t started = 0, waited = 0;

 private:
  struct Late final : Pending {
    Late(LateGathers& group, int64_t number, const void* input, void* output, size_t bytes)
        : group(group), number(number), input(input), output(output), mine(bytes) {
      all.resize(bytes * static_cast<size_t>(group.size()));
      std::memcpy(mine.data(), input, bytes);
    }
    ~Late() override {
      if (pending) pending->wait();
    }
    void wait() override {
      EXPECT_EQ(number, group.waited) << "out of turn";
      EXPECT_EQ(std::memcmp(mine.data(), input, mine.size()), 0) << "overwritten while it is on its way";
      std::exchange(pending, nullptr)->wait();
      if (number != group.lost_) std::memcpy(output, all.data(), all.size());
      ++group.waited;
    }
    LateGathers& group;
    int64_t number;
    const void* input;
    void* output;
    std::vector<char> mine, all;
    std::unique_ptr<Pending> pending;
  };
  int64_t lost_;  // that gather of every step brings nothing, as if nobody had waited for it
};

/// Data parallel over all ranks, whose weights travel through `shards`.
Groups groups_of(Collectives& group, Collectives& shards) {
  return {.all = group,
          .replicas = group,
          .shards = shards,
          .data_rank = group.rank(),
          .data_ranks = group.size()};
}

constexpr int64_t kLayers = 5;

/// A parameter a layer, and one behind them; in float64 a bucket each.
std::vector<model::ParameterInfo> infos() {
  return layer_parameters(kLayers, [](int64_t depth) { return 100 + 3 * depth; });
}

TEST(WeightGather, EveryReaderFindsWhatItReads) {
  const auto world = test::mpi().make_world_group();
  if (world->size() == 1) GTEST_SKIP() << "alone a rank has all weights";
  LateGathers group(*world);
  FlatParameters parameters(infos(), DType::f64, group, at::kCPU, /*bucket_bytes=*/1);
  ASSERT_EQ(parameters.buckets().size(), kLayers + 1u);
  const model::Parameters leaves = parameters.leaves();
  const auto first = [&](int64_t depth) { return leaves.at("p" + std::to_string(depth))[0].item<double>(); };
  std::vector<std::pair<int64_t, int64_t>> arrived;
  parameters.gather().on_arrival([&](int64_t begin, int64_t end) { arrived.emplace_back(begin, end); });
  double value = 0;
  const auto gather = [&] {
    parameters.settle();
    parameters.owned_weights().fill_(++value);
    parameters.gather_weights();
    EXPECT_EQ(group.started, kLayers + 1);
    EXPECT_EQ(group.waited, 0);
    arrived.clear();
  };

  gather();
  parameters.gather().step_begins();
  parameters.gather().pass_begins();
  for (int64_t depth = 0; depth <= kLayers; ++depth) {
    EXPECT_EQ(first(depth), value - 1);
    parameters.gather().await(depth);
    parameters.gather().await(depth);
    EXPECT_EQ(group.waited, depth + 1);
    EXPECT_EQ(first(depth), value);
    EXPECT_EQ(arrived.back().first, depth);
  }
  EXPECT_EQ(arrived.size(), kLayers + 1u);
  EXPECT_GT(parameters.gather().exposed_ms(), 0);
  parameters.gather().step_begins();  // a step that follows one without an update
  parameters.gather().pass_begins();
  EXPECT_EQ(parameters.gather().exposed_ms(), 0);

  gather();
  EXPECT_EQ(parameters.weights()[0].item<double>(), value);
  EXPECT_EQ(group.waited, kLayers + 1);
  EXPECT_EQ(arrived.size(), kLayers + 1u);
  gather();
  EXPECT_EQ(parameters.leaves().at("p5")[0].item<double>(), value);
  gather();
  require_equal_weights(parameters, *world, 1);
  EXPECT_EQ(group.waited, kLayers + 1);
  gather();
  EXPECT_EQ(parameters.first_non_finite(), "its own weights and gradient finite");
  EXPECT_EQ(group.waited, kLayers + 1);
  gather();
  ShardedOptimizer optimizer({}, parameters);
  parameters.owned_gradients().fill_(1);
  optimizer.update(0.1, 1);  // LateGathers looks at what it would overwrite
  EXPECT_EQ(group.waited, 0);
  EXPECT_EQ(first(kLayers), value);
  EXPECT_LT(parameters.weights()[0].item<double>(), value);
}

/// At the embedding nothing but the first bucket has come, after layer i nothing behind layer i + 1, whose
/// norm has been taken.
TEST(WeightGather, TheForwardPassRunsWhileLaterLayersAreOnTheirWay) {
  const auto world = test::mpi().make_world_group();
  if (world->size() == 1) GTEST_SKIP() << "alone a rank has all weights";
  for (const bool tied : {true, false})
    for (const char* recompute : {"conv", "block"}) {
      model::ModelConfig config = test::tiny_model();
      config.tied = tied, config.recompute = recompute;
      LateGathers late(*world);
      StepRunner runner(config, {}, {.weights = DType::f64, .activations = at::kDouble, .bucket_bytes = 1},
                        groups_of(*world, late));
      runner.parameters().initialise(config, 3);
      runner.weights_changed();
      runner.accumulate(made_up_rows(config, 1, 12, world->rank(), 1));
      runner.update(1e-3, runner.agree());
      const auto buckets = static_cast<int64_t>(runner.parameters().buckets().size());
      ASSERT_EQ(buckets, 4);
      ASSERT_EQ(late.started, buckets);
      ASSERT_EQ(late.waited, 0);

      std::vector<int64_t> waited;
      model::LanguageModel::Taps taps{{-1, 0, 1, 2},
                                      [&](int64_t, const at::Tensor&) { waited.push_back(late.waited); }};
      runner.model().hidden(at::zeros({1, 12}, at::kLong), at::zeros({1, 12}, at::kInt), &taps);
      EXPECT_EQ(waited, (std::vector<int64_t>{1, 2, 3, 4})) << tied << recompute;
    }
}

RunConfig configured(const std::string& folder, const std::string& name) {
  RunConfig config = test::tiny_run(folder, name, 6);
  config.train.bucket_mib = 1e-6;
  return config;
}

void run(const RunConfig& config, Collectives& group, Collectives& shards) {
  EXPECT_EQ(train(config, groups_of(group, shards)), ExitCode::ok);
  group.barrier();
}

TEST(WeightGather, LateWeightsChangeNoBit) {
  const auto group = test::mpi().make_world_group();
  const test::SharedFolder folder(*group);
  const std::vector<std::pair<std::string, std::function<void(RunConfig&)>>> variants = {
      {"plain", [](RunConfig&) {}},
      {"untied", [](RunConfig& c) { c.model.tied = false; }},
      {"recomputed", [](RunConfig& c) { c.model.recompute = "block"; }},
      {"passes", [](RunConfig& c) { c.train.micro_batch = 1; }},
      {"without rows", [](RunConfig& c) { c.train.global_batch = 2; }},
      {"scattered", [](RunConfig& c) { c.layout.zero = 2, c.train.micro_batch = 1; }},
      {"streams", [](RunConfig& c) { c.data.order = "streams"; }},
      {"everybody reads",
       [&](RunConfig& c) {
         c.eval.eval_data = folder.path() + "/data";
         c.train.eval_every = c.train.digest_every = c.train.telemetry_every = c.train.save_every = 1;
       }},
  };
  for (const auto& [what, change] : variants) {
    RunConfig plain = configured(folder.path(), what), late = configured(folder.path(), what + " late");
    change(plain), change(late);
    run(plain, *group, *group);
    LateGathers gathers(*group);
    run(late, *group, gathers);
    EXPECT_EQ(gathers.started > 1, group->size() > 1) << what;
    const auto difference = first_difference(read_ledger(plain.train.ledger), read_ledger(late.train.ledger));
    EXPECT_FALSE(difference) << what << ": " << *difference;
    EXPECT_EQ(test::metric(late.train.run_dir, "exposed_communication_ms").size(), 6u);
  }
}

TEST(WeightGather, AWaitLeftOutShows) {
  const auto group = test::mpi().make_world_group();
  if (group->size() == 1) GTEST_SKIP() << "alone a rank has all weights";
  const test::SharedFolder folder(*group);
  const RunConfig sound = configured(folder.path(), "sound");
  LateGathers gathers(*group);
  run(sound, *group, gathers);
  const int64_t buckets = gathers.started;
  ASSERT_GT(buckets, 3);
  for (int64_t lost = 0; lost < buckets; ++lost) {
    const RunConfig config = configured(folder.path(), "lost" + std::to_string(lost));
    LateGathers losing(*group, lost);
    run(config, *group, losing);
    const std::vector<LedgerLine> expected = read_ledger(sound.train.ledger),
                                  found = read_ledger(config.train.ledger);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_EQ(found[0].text(), expected[0].text()) << lost;
    EXPECT_NE(found[1].loss, expected[1].loss) << lost;
  }
}

}  // namespace
}  // namespace dm::train
