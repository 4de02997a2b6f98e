// Whole runs on layouts: what they train and save is what one rank trains and saves, and any of them goes on
// with what another left.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "tests/support/process.h"
#include "tests/train/layout.h"
#include "tests/train/tiny_run.h"
#include "train/ledger.h"
#include "train/monitor/run_history.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

using test::Layout;
using test::SharedFolder;
using test::tiny_run;

/// Training in float64 amplifies a rounding error of 1e-16 by some orders over the steps; the promise is
/// 1e-8.
constexpr double kPromise = 1e-8;

/// The layouts of this many ranks; the model has four heads a layer.
std::vector<std::unique_ptr<Layout>> layouts() {
  std::vector<std::unique_ptr<Layout>> all;
  const int64_t world = test::mpi().world();
  for (const int64_t tp : {1, 2, 4})
    for (const int64_t cp : {1, 2, 3, 4})
      if (world % (cp * tp) == 0 && cp * tp > 1) all.push_back(std::make_unique<Layout>(cp, tp));
  return all;
}

/// The rows of tiny_run(), which begin in every step, or go on with the state that they carry.
RunConfig ordered_run(const char* order, const std::string& folder, const std::string& name, int64_t steps) {
  RunConfig config = tiny_run(folder, name + "-" + order, steps);
  config.data.order = order;
  return config;
}
constexpr const char* kOrders[] = {"shuffled", "streams"};

void run(const RunConfig& config, const Groups& groups) {
  EXPECT_EQ(train(config, groups), ExitCode::ok);
  groups.all.barrier();
}

void run_alone(const RunConfig& config, Collectives& group) {
  const auto alone = make_single_process_collectives();
  if (group.rank() == 0) run(config, data_parallel(*alone));
  group.barrier();
}

void expect_same(const RunConfig& config, const RunConfig& reference, const std::string& what) {
  const std::string &dir = config.train.run_dir, &expected = reference.train.run_dir;
  for (const char* key : {"loss", "gradient_norm"})
    EXPECT_LE(test::relative_difference(test::metric(dir, key), test::metric(expected, key)), kPromise)
        << what << " " << key;
  EXPECT_EQ(test::metric(dir, "targets"), test::metric(expected, "targets")) << what;
  EXPECT_LE(test::relative_difference(test::final_weights(dir), test::final_weights(expected)), kPromise)
      << what;
  const auto difference = first_difference(read_ledger(reference.train.ledger),
                                           read_ledger(config.train.ledger), /*samples_only=*/true);
  EXPECT_FALSE(difference) << what << ": " << *difference;
}

TEST(Layouts, TrainWhatOneRankTrains) {
  const auto all = layouts();
  Collectives& group = all.front()->all();
  const SharedFolder folder(group);
  for (const char* order : kOrders) {
    const RunConfig reference = ordered_run(order, folder.path(), "alone", 20);
    run_alone(reference, group);
    for (const auto& layout : all) {
      const RunConfig config = ordered_run(order, folder.path(), layout->name(), 20);
      run(config, layout->groups());
      if (group.rank() == 0) expect_same(config, reference, layout->name() + " " + order);
      group.barrier();
    }
  }
}

TEST(Layouts, ScoreTasksAsOneRankDoes) {
  const auto all = layouts();
  Collectives& group = all.front()->all();
  const SharedFolder folder(group);
  const std::string tasks = folder.path() + "/tasks.jsonl";
  if (group.rank() == 0)
    test::write_text(
        tasks,
        "{\"task\": \"c\", \"context\": \"a\", \"choices\": [\"b\", \" of eleven\", \"xyz\"], \"answer\": "
        "1}\n"
        "{\"task\": \"c\", \"context\": \"longer\", \"choices\": [\"b\", \"c\"], \"answer\": 0}\n"
        "{\"task\": \"t\", \"context\": \"a\", \"target\": \"$m\"}\n");
  group.barrier();
  const auto scores = [](const RunConfig& config) {
    std::vector<Json> found;
    for (const auto& evaluation : read_history(config.train.run_dir).evaluations)
      found.push_back(evaluation.values.at("tasks"));
    return found;
  };
  const auto configured = [&](const std::string& name) {
    RunConfig config = tiny_run(folder.path(), name, 4);
    config.eval.tasks = tasks, config.eval.tasks_every = 2;
    return config;
  };
  const RunConfig reference = configured("alone");
  run_alone(reference, group);
  for (const auto& layout : all) {
    const RunConfig config = configured(layout->name());
    run(config, layout->groups());
    if (group.rank() == 0) {
      const std::vector<Json> expected = scores(reference), found = scores(config);
      EXPECT_EQ(found.size(), 2u) << layout->name();  // after steps 2 and 4
      for (size_t i = 0; i < std::min(expected.size(), found.size()); ++i) {
        EXPECT_EQ(found[i]["c"], expected[i]["c"]) << layout->name();
        EXPECT_EQ(found[i]["t"]["acc"], expected[i]["t"]["acc"]) << layout->name();
        const double a = found[i]["t"]["perplexity"], b = expected[i]["t"]["perplexity"];
        EXPECT_NEAR(a / b, 1, kPromise) << layout->name();
      }
    }
    group.barrier();
  }
}

TEST(Layouts, RepeatBitForBitAndResumeBitForBit) {
  const auto all = layouts();
  Collectives& group = all.front()->all();
  const SharedFolder folder(group);
  for (const char* order : kOrders)
    for (const auto& layout : all) {
      const RunConfig whole = ordered_run(order, folder.path(), layout->name() + "-whole", 8);
      run(whole, layout->groups());
      RunConfig parts = ordered_run(order, folder.path(), layout->name() + "-parts", 5);
      run(parts, layout->groups());
      parts.train.steps = 8, parts.train.allow = {"steps"};
      run(parts, layout->groups());
      if (group.rank() == 0) {
        const auto difference =
            first_difference(read_ledger(whole.train.ledger), read_ledger(parts.train.ledger));
        EXPECT_FALSE(difference) << layout->name() << " " << order << ": " << *difference;
      }
      group.barrier();
    }
}

TEST(Layouts, GoOnWithWhatAnotherLayoutSaved) {
  const auto all = layouts();
  Collectives& group = all.front()->all();
  const SharedFolder folder(group);
  for (const char* order : kOrders) {
    const RunConfig reference =
        ordered_run(order, folder.path(), "alone", 6 + 2 * static_cast<int64_t>(all.size()));
    run_alone(reference, group);
    RunConfig config = ordered_run(order, folder.path(), "moving", 4);
    config.train.allow = {"steps"};
    run_alone(config, group);
    for (const auto& layout : all) {
      config.train.steps += 2;
      run(config, layout->groups());
    }
    config.train.steps += 2;
    run_alone(config, group);
    if (group.rank() == 0) expect_same(config, reference, std::string("over all layouts, ") + order);
    group.barrier();
  }
}

}  // namespace
}  // namespace dm::train
