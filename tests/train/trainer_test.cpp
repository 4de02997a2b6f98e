// One rank's runs when something goes wrong: crashes, full disks, numerics, changed options.

#include "train/trainer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "core/forwarding_collectives.h"
#include "data/loader.h"
#include "tests/train/tiny_run.h"
#include "train/ledger.h"
#include "train/load_model.h"
#include "train/state.h"

namespace dm::train {
namespace {

using test::tiny_run;
using testing::AllOf;
using testing::HasSubstr;

class TrainerTest : public testing::Test {
 protected:
  ExitCode run(const RunConfig& config) { return train(config, data_parallel(*group_)); }
  std::string refusal(const RunConfig& config, ExitCode code) {
    try {
      run(config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    return "";
  }
  const std::string& path() const { return folder_.path(); }

  std::unique_ptr<Collectives> group_ = make_single_process_collectives();
  test::SharedFolder folder_{*group_};
};

void expect_equal_histories(const RunConfig& expected, const RunConfig& found) {
  const auto difference =
      first_difference(read_ledger(expected.train.ledger), read_ledger(found.train.ledger));
  EXPECT_FALSE(difference) << *difference;
  EXPECT_EQ(test::metric(found.train.run_dir, "loss"), test::metric(expected.train.run_dir, "loss"));
}

/// A group in which the process dies, as far as the trainer can tell, in the gradient reduction of a step.
class DiesAtStep final : public ForwardingCollectives {
 public:
  DiesAtStep(Collectives& inner, int64_t step) : ForwardingCollectives(inner), left_(step) {}
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    if (--left_ == 0) DM_FAIL(ExitCode::lost, "the end");
    return ForwardingCollectives::reduce_scatter(input, output, count, dtype, op);
  }

 private:
  int64_t left_;
};

/// One step by hand: the mean loss of one batch, plain autograd, and the formulas of docs/model.md.
TEST_F(TrainerTest, FirstStepIsTheTextbooks) {
  RunConfig config = tiny_run(path(), "run", 3);
  config.train.steps = config.schedule.warmup = 1;
  config.optimizer.clip = 0.3;
  run(config);

  data::Loader loader(config.data, {.length = 12, .global_rows = 5}, 0);
  const data::Batch batch = loader.next();
  at::Tensor tokens = at::empty({5, 13}, at::kLong), seq_idx = at::empty({5, 12}, at::kInt);
  for (int64_t i = 0; i < 5 * 13; ++i) tokens.view(-1)[i] = batch.tokens[static_cast<size_t>(i)];
  for (int64_t i = 0; i < 5 * 12; ++i) seq_idx.view(-1)[i] = batch.seq_idx[static_cast<size_t>(i)];
  model::Parameters parameters;
  for (const model::ParameterInfo& info : model::parameter_infos(config.model)) {
    at::Tensor values = at::empty(info.shape, at::kDouble);
    model::initialise(config.model, info, static_cast<uint64_t>(config.train.seed), 0, values);
    parameters.emplace(info.name, values.set_requires_grad(true));
  }
  const model::LanguageModel model(config.model, parameters);
  const model::LanguageModel::TrainingRows rows{static_cast<uint64_t>(config.train.seed),
                                                at::arange(0, 5, at::kLong), 0};
  const at::Tensor loss = model.loss_sum(tokens, seq_idx, at::ones({5, 12}, at::kByte), nullptr, &rows) / 60;
  loss.backward();

  double squares = 0;
  for (const auto& [name, leaf] : parameters) squares += leaf.grad().square().sum().item<double>();
  const double norm = std::sqrt(squares), clip = 0.3 / (norm + 1e-6);
  ASSERT_LT(clip, 1);
  // One order of summation against another in float64, over some ten thousand terms.
  EXPECT_NEAR(test::metric(config.train.run_dir, "loss").at(0), loss.item<double>(), 1e-12);
  EXPECT_NEAR(test::metric(config.train.run_dir, "gradient_norm").at(0), norm, 1e-12);
  EXPECT_NEAR(test::metric(config.train.run_dir, "clip").at(0), clip, 1e-12);

  const model::Parameters trained = load_for_inference(config.train.run_dir).parameters;
  const OptimizerConfig& o = config.optimizer;
  for (const model::ParameterInfo& info : model::parameter_infos(config.model)) {
    const at::Tensor before = parameters.at(info.name).detach(), g = parameters.at(info.name).grad() * clip;
    // After bias correction the first moments of the first step are g and its square.
    const at::Tensor after =
        before * (1 - (info.decay ? o.lr * o.weight_decay : 0)) - o.lr * g / (g.abs() + o.eps);
    // A gradient near eps turns its own rounding of 1e-16 into one of 1e-8 of a step of lr.
    EXPECT_LT((after - trained.at(info.name)).abs().max().item<double>(), 1e-8 * o.lr) << info.name;
  }
}

TEST_F(TrainerTest, CrashesBetweenCheckpointsLoseNothing) {
  RunConfig whole = tiny_run(path(), "whole", 12), crashing = tiny_run(path(), "crashing", 12);
  whole.train.save_every = crashing.train.save_every = 3;
  run(whole);
  for (const int64_t step : {2, 5, 1, 6, 5}) {  // counted from where each attempt starts: 0, 0, 3, 3, 6
    DiesAtStep dying(*group_, step);
    EXPECT_THROW(train(crashing, data_parallel(dying)), Error);
  }
  EXPECT_EQ(run(crashing), ExitCode::ok);
  expect_equal_histories(whole, crashing);
}

TEST_F(TrainerTest, StepThatFailsThreeTimesEndsTheRunForGood) {
  RunConfig config = tiny_run(path(), "run", 12);
  config.train.save_every = 3;
  const auto dies_in = [&](int64_t step_of_attempt) {
    DiesAtStep dying(*group_, step_of_attempt);
    try {
      train(config, data_parallel(dying));
      return ExitCode::ok;
    } catch (const Error& error) {
      return error.code();
    }
  };
  EXPECT_EQ(dies_in(5), ExitCode::lost);  // step 5, from step 0 on; then from the checkpoint after step 3 on
  EXPECT_EQ(dies_in(2), ExitCode::lost);
  EXPECT_EQ(dies_in(3), ExitCode::lost);  // step 6: step 5 was passed
  EXPECT_EQ(dies_in(2), ExitCode::lost);
  EXPECT_EQ(dies_in(2), ExitCode::lost);
  EXPECT_EQ(dies_in(2), ExitCode::repeated);
  EXPECT_TRUE(std::filesystem::exists(config.train.run_dir + "/failures.json"));
  EXPECT_EQ(run(config), ExitCode::ok);  // whoever has found the reason goes on
  EXPECT_FALSE(std::filesystem::exists(config.train.run_dir + "/failures.json"));
}

TEST_F(TrainerTest, RefusedRunLeavesNoFolder) {
  const RunConfig good = tiny_run(path(), "run", 3);
  std::vector<std::pair<const char*, RunConfig>> wrong;
  const auto with = [&](const char* what, const auto& change) {
    change(wrong.emplace_back(what, good).second);
  };
  with("data absent", [&](RunConfig& c) { c.data.data = {path() + "/absent"}; });
  with("vocabulary", [](RunConfig& c) { c.model.vocab_size = 256; });
  with("rows longer than the data", [](RunConfig& c) { c.train.length = 5000; });
  with("streams without samples", [](RunConfig& c) { c.data.order = "streams", c.train.global_batch = 500; });
  with("held-out data absent", [&](RunConfig& c) { c.eval.eval_data = path() + "/absent"; });
  for (const auto& [what, config] : wrong) {
    EXPECT_NE(refusal(config, ExitCode::usage), "") << what;
    EXPECT_FALSE(std::filesystem::exists(config.train.run_dir)) << what;
  }
}

TEST_F(TrainerTest, HalfWrittenLinesOfAKilledProcessDisappear) {
  RunConfig whole = tiny_run(path(), "whole", 6), killed = tiny_run(path(), "killed", 4);
  run(whole);
  run(killed);
  std::ofstream(killed.train.ledger, std::ios::app)
      << read_ledger(whole.train.ledger)[4].text().substr(0, 20);
  std::ofstream(killed.train.run_dir + "/metrics.jsonl", std::ios::app) << R"({"step": 5, "lo)";
  killed.train.steps = 6;
  run(killed);
  expect_equal_histories(whole, killed);
}

TEST_F(TrainerTest, FullDiskEndsNoRunInItsMiddleButAtItsEnd) {
  RunConfig whole = tiny_run(path(), "whole", 6), full = tiny_run(path(), "full", 6);
  whole.train.save_every = full.train.save_every = 2;
  run(whole);

  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{64 << 10, before.rlim_max};  // enough for logs and metrics, not for a checkpoint
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = refusal(full, ExitCode::io);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_NE(message, "");
  EXPECT_EQ(read_ledger(full.train.ledger).size(), 6u);  // it went on to its end
  EXPECT_TRUE(checkpoints::list(full.train.run_dir).empty());
  EXPECT_EQ(run(full), ExitCode::ok);
  expect_equal_histories(whole, full);
}

/// A group in which every gradient from a step on holds a NaN.
class PoisonedFromStep final : public ForwardingCollectives {
 public:
  PoisonedFromStep(Collectives& inner, int64_t step) : ForwardingCollectives(inner), left_(step) {}
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    if (--left_ <= 0)
      static_cast<double*>(const_cast<void*>(input))[0] = std::numeric_limits<double>::quiet_NaN();
    return ForwardingCollectives::reduce_scatter(input, output, count, dtype, op);
  }

 private:
  int64_t left_;
};

TEST_F(TrainerTest, PersistentNanEndsTheRunAndTouchesNoWeight) {
  RunConfig config = tiny_run(path(), "nan", 100);
  config.train.skip_limit = 3, config.train.save_every = 1;
  PoisonedFromStep poisoned(*group_, 3);
  try {
    train(config, data_parallel(poisoned));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::internal);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("3 steps in a row"), HasSubstr("--lr"), HasSubstr("--skip-limit")));
  }
  const auto ledger = read_ledger(config.train.ledger);
  ASSERT_EQ(ledger.size(), 4u);  // two updates, two skipped steps, and the third gave up
  EXPECT_EQ(ledger[3].state, ledger[1].state);
  for (const double weight : test::final_weights(config.train.run_dir)) ASSERT_TRUE(std::isfinite(weight));
}

TEST_F(TrainerTest, CompleteRunIsLeftAsItIs) {
  const RunConfig config = tiny_run(path(), "run", 3);
  run(config);
  const auto before = std::filesystem::last_write_time(config.train.run_dir + "/metrics.jsonl");
  EXPECT_EQ(run(config), ExitCode::ok);
  EXPECT_EQ(std::filesystem::last_write_time(config.train.run_dir + "/metrics.jsonl"), before);
  EXPECT_EQ(test::metric(config.train.run_dir, "loss").size(), 3u);
}

TEST_F(TrainerTest, ChangedOptionsAreRefusedOrAllowed) {
  RunConfig config = tiny_run(path(), "run", 3);
  run(config);
  config.train.steps = 5;
  RunConfig changed = config;
  changed.optimizer.lr = 0.02;
  EXPECT_THAT(refusal(changed, ExitCode::usage),
              AllOf(HasSubstr("lr: 0.01 -> 0.02"), HasSubstr("--allow lr")));
  changed.train.allow = {"lr"};
  EXPECT_EQ(run(changed), ExitCode::ok);

  RunConfig other_model = changed;
  other_model.train.steps = 6;
  other_model.model.pattern = "MMF";
  EXPECT_THAT(refusal(other_model, ExitCode::usage), HasSubstr("pattern: DMF -> MMF"));
  other_model.train.allow = {"pattern", "lr"};  // allowed or not, these weights are not there
  EXPECT_NE(refusal(other_model, ExitCode::bad_data), "");

  RunConfig other_data = changed;
  other_data.train.steps = 6;
  other_data.data.data = {path() + "/other"};
  test::write_tiny_data(path() + "/other", 900);
  EXPECT_THAT(refusal(other_data, ExitCode::usage), AllOf(HasSubstr("data: "), HasSubstr("--allow data")));
  std::filesystem::rename(path() + "/data", path() + "/moved");
  other_data.data.data = {path() + "/moved"};
  EXPECT_EQ(run(other_data), ExitCode::ok);  // the same samples at another place
}

TEST_F(TrainerTest, ModelThatDoesNotHoldTheVocabularyIsRefused) {
  RunConfig config = tiny_run(path(), "run", 3);
  config.model.vocab_size = 256;
  EXPECT_THAT(refusal(config, ExitCode::usage), AllOf(HasSubstr("--vocab-size is 256"), HasSubstr("257")));
}

TEST_F(TrainerTest, MinutesEndARunAndAreSummedOverResumes) {
  RunConfig config = tiny_run(path(), "run", 3);
  config.train.steps = 0, config.train.minutes = 1e-6;
  EXPECT_EQ(run(config), ExitCode::ok);
  const size_t steps = read_ledger(config.train.ledger).size();
  EXPECT_EQ(steps, 1u);
  EXPECT_EQ(run(config), ExitCode::ok);  // its time is used up
  EXPECT_EQ(read_ledger(config.train.ledger).size(), steps);
  config.train.minutes = 1000, config.train.steps = 3;
  EXPECT_EQ(run(config), ExitCode::ok);
  EXPECT_EQ(read_ledger(config.train.ledger).size(), 3u);
}

TEST_F(TrainerTest, MetricsHoldTheDifferentialLayersAndEvaluations) {
  RunConfig config = tiny_run(path(), "run", 8);
  config.eval.eval_data = path() + "/data", config.eval.eval_rows = 3, config.train.eval_every = 3;
  run(config);
  std::ifstream file(config.train.run_dir + "/metrics.jsonl");
  std::vector<int64_t> measured, evaluated;
  for (std::string line; std::getline(file, line);) {
    const Json json = parse_json(line, "metrics");
    const auto step = json["step"].get<int64_t>();
    if (json.contains("eval")) evaluated.push_back(step);
    if (!json.contains("difference")) continue;
    measured.push_back(step);
    ASSERT_EQ(json["difference"].size(), 1u);
    EXPECT_EQ(json["difference"][0]["layer"], 0);
    EXPECT_GT(json["difference"][0]["norm_1"].get<double>(), 0);
    EXPECT_LE(std::abs(json["difference"][0]["cosine"].get<double>()), 1 + 1e-12);
  }
  EXPECT_EQ(measured, (std::vector<int64_t>{4, 8}));
  EXPECT_EQ(evaluated, (std::vector<int64_t>{3, 6, 8}));
}

TEST_F(TrainerTest, TrainedModelLoadsFromARunOrACheckpoint) {
  RunConfig config = tiny_run(path(), "run", 4);
  config.train.save_every = 2;
  run(config);
  const LoadedModel newest = load_for_inference(config.train.run_dir);
  EXPECT_EQ(newest.summary.step, 4);
  const std::vector<std::string> all = checkpoints::list(config.train.run_dir);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(load_for_inference(all[1]).summary.step, 2);
  EXPECT_EQ(model::parameter_infos(newest.config).size(), newest.parameters.size());
  const model::LanguageModel model(newest.config, newest.parameters);
  EXPECT_EQ(model.logits(at::zeros({1, 3}, at::kLong), at::zeros({1, 3}, at::kInt)).size(2), 257);

  // A flipped byte in the newest: the one before is taken.
  for (const auto& entry : std::filesystem::directory_iterator(all[0])) {
    if (entry.path().extension() != ".h5") continue;
    File shard = File::open(entry.path().string(), O_RDWR);
    char byte = 0;
    for (int64_t at = shard.size_bytes() / 8; at < shard.size_bytes(); at += shard.size_bytes() / 8) {
      shard.read_at(&byte, 1, at);
      byte = static_cast<char>(byte ^ 1);
      shard.write_at(&byte, 1, at);
    }
  }
  EXPECT_EQ(load_for_inference(config.train.run_dir).summary.step, 2);
  EXPECT_THROW(load_for_inference(all[0]), Error);
  EXPECT_THROW(load_for_inference(path() + "/absent"), Error);
  EXPECT_THROW(load_for_inference(path() + "/data"), Error);
}

}  // namespace
}  // namespace dm::train
