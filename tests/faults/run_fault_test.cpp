// Rows of docs/reliability.md that need a whole training run: each is hit once, goes on, and must have the
// ledger of a run that nothing happened to.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

constexpr int kSaved = 75, kLocked = 73;

class RunFault : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    prepare_sample(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string path(const std::string& name) { return *folder_ / name; }
  static Words words(const std::string& name, int steps, const Words& more = {}) {
    return train_words(folder_->path(), name, steps, more);
  }
  static std::string ledger(const std::string& name) { return read_text(path(name + ".ledger")); }
  static std::string log(const std::string& name) { return read_text(path(name + "/logs/rank-00000.log")); }

  /// Runs it again as long as processes of an earlier attempt still hold the run.
  static Outcome resume(const Words& command) {
    Outcome outcome;
    for (int attempt = 0; attempt < 40; ++attempt) {
      outcome = run(command);
      if (outcome.exit_code != kLocked) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
    }
    return outcome;
  }
  static void wait_for_step(Process& process, const std::string& name, int step) {
    const auto lines = [&] {
      const std::string text = ledger(name);
      return std::count(text.begin(), text.end(), '\n');
    };
    while (process.running() && lines() < step) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  static void expect_verifies(const std::string& name) {
    EXPECT_EQ(run({diffmamba(), "verify", path(name)}).exit_code, 0) << name;
  }
  /// What strace does to the calls of one process, before its words.
  static Words traced(const std::string& injection, Words command) {
    command.insert(command.begin(),
                   {"strace", "-f", "-qq", "-o", path("strace"), "-e",
                    "trace=" + injection.substr(0, injection.find(':')), "-e", "inject=" + injection});
    return command;
  }
  static double wait_ms_of_saves(const std::string& name) {
    double longest = 0;
    int saves = 0;
    std::istringstream lines(read_text(path(name + "/metrics.jsonl")));
    for (std::string line; std::getline(lines, line);)
      if (const auto json = nlohmann::json::parse(line); json.contains("save"))
        longest = std::max(longest, json["save"].at("wait_ms").get<double>()), ++saves;
    EXPECT_GT(saves, 0) << name;
    return longest;
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* RunFault::folder_ = nullptr;

TEST_F(RunFault, Row10_ASaveThatFallsDueWhileOneIsWrittenIsTakenAfterIt) {
  // Each write of a checkpoint takes 20 ms, a step a few: the second is due long before the first is done.
  const Outcome outcome = run(traced("pwrite64:delay_enter=20000", words("due", 60, {"--save-every", "1"})));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(log("due"),
              HasSubstr("a checkpoint is due while that of step 1 is being written; it is taken after that"));
  expect_verifies("due");
  EXPECT_TRUE(fs::exists(path("due/checkpoints/step_000000060")));
}

TEST_F(RunFault, Row23_SlowWritesDoNotHoldTrainingUp) {
  ASSERT_EQ(run(words("fast", 40, {"--save-every", "20"})).exit_code, 0);
  // Every eighth, or the test would take a minute.
  const Outcome outcome =
      run(traced("pwrite64:delay_enter=200000:when=1+8", words("slow", 40, {"--save-every", "20"})));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(ledger("slow"), ledger("fast"));
  // The copy in memory is all that a step waits for: far below one of those writes.
  EXPECT_LT(wait_ms_of_saves("slow"), 100);
  EXPECT_LT(wait_ms_of_saves("fast"), 100);
}

TEST_F(RunFault, Row33_OneRankThatCannotLoadIsTheVerdictOfAll) {
  ASSERT_EQ(run(mpirun(2, words("load", 10))).exit_code, 0);
  const Words program = words("load", 20, {"--allow", "steps"});
  Words all = mpirun(1, program);
  all.insert(all.end(), {":", "-n", "1", "strace", "-f", "-qq", "-o", path("strace"), "-e", "trace=pread64",
                         "-e", "inject=pread64:error=EIO", "-P",
                         path("load/checkpoints/step_000000010/shard-00000-of-00001.h5")});
  all.insert(all.end(), program.begin(), program.end());
  const auto begin = Clock::now();
  const Outcome outcome = run(all);
  // The other rank could read it; what is decided together is to use the one before.
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(log("load"),
              AllOf(HasSubstr("Input/output error"), HasSubstr("set aside as corrupt-step_000000010"),
                    HasSubstr("step_000000005: going on after step 5")));
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - begin).count(), 20)
      << "the bound is 10, and a run is in it";
}

TEST_F(RunFault, Row36_ADatasetThatChangedBetweenRunsIsRefused) {
  fs::copy(path("data/train"), path("changed"), fs::copy_options::recursive);
  ASSERT_EQ(run(words("changing", 10, {"--data", path("changed")})).exit_code, 0);
  fs::remove_all(path("changed"));
  write_text(path("other.txt"), sample_text(600, 8));
  ASSERT_EQ(run({diffmamba(), "prepare", "--input", path("other.txt"), "--output", path("other"),
                 "--documents", "blank-line", "--heldout", "0.1"})
                .exit_code,
            0);
  fs::copy(path("other/train"), path("changed"), fs::copy_options::recursive);
  const Outcome outcome = run(words("changing", 20, {"--data", path("changed"), "--allow", "steps"}));
  EXPECT_EQ(outcome.exit_code, 64) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("this run does not continue"), HasSubstr("\n  data: ")));
  expect_verifies("changing");
}

TEST_F(RunFault, Row37_AShardDeletedWhileItIsTrainedOnIsNamedAtTheNextStart) {
  fs::copy(path("data/train"), path("deleted"), fs::copy_options::recursive);
  const Words command = words("deleting", 100000, {"--data", path("deleted")});
  Process process(command);
  wait_for_step(process, "deleting", 6);
  fs::remove(path("deleted/tokens-00000-of-00001.h5"));
  wait_for_step(process, "deleting", 12);  // what is open can still be read
  process.signal(SIGUSR1);
  EXPECT_EQ(process.wait().exit_code, kSaved);
  const Outcome outcome = run(command);
  EXPECT_EQ(outcome.exit_code, 65) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("tokens-00000-of-00001.h5"));
  expect_verifies("deleting");
}

TEST_F(RunFault, Row48_KilledOnFourTwoThreeAndOneRanksEachSampleIsSeenOnce) {
  constexpr int kSteps = 50;
  ASSERT_EQ(run(words("steady", kSteps)).exit_code, 0);
  int part = 0;
  for (const int ranks : {4, 2, 3, 1}) {
    Process process(on_ranks(ranks, words("moved", kSteps)));
    wait_for_step(process, "moved", 10 * ++part - 2);  // between two saves
    process.signal(SIGKILL);
    process.wait();
    while (!ranks_of(path("moved")).empty()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_EQ(resume(mpirun(4, words("moved", kSteps))).exit_code, 0);
  // Steps and hashes of sample ids; losses and states differ by rounding.
  const auto samples = [](const std::string& text) {
    Words lines;
    std::istringstream in(text);
    for (std::string step, loss, ids, state; in >> step >> loss >> ids >> state;)
      lines.push_back(step + " " + ids);
    return lines;
  };
  EXPECT_EQ(samples(ledger("moved")), samples(ledger("steady")));
  RecordProperty("trials", 4);
  expect_verifies("moved");
}

TEST_F(RunFault, Row51_KilledAtTheEndOfAnEpochNothingIsLostOrRepeated) {
  // 20 documents give a few rows of 64 tokens: an epoch is some steps, and these kills lie on both sides of
  // its end.
  write_text(path("short.txt"), sample_text(20, 9));
  ASSERT_EQ(run({diffmamba(), "prepare", "--input", path("short.txt"), "--output", path("short"),
                 "--documents", "blank-line"})
                .exit_code,
            0);
  const Words data = {"--data", path("short/train"), "--save-every", "1"};
  constexpr int kSteps = 60;
  ASSERT_EQ(run(words("epochs", kSteps, data)).exit_code, 0);
  for (int at = 14; at <= 26; at += 2) {
    Process process(words("epochs-killed", kSteps, data));
    wait_for_step(process, "epochs-killed", at);
    process.signal(SIGKILL);
    process.wait();
  }
  ASSERT_EQ(resume(words("epochs-killed", kSteps, data)).exit_code, 0);
  EXPECT_EQ(ledger("epochs-killed"), ledger("epochs"));
  RecordProperty("trials", 7);
}

TEST_F(RunFault, Row52_WhatWasReadAheadAndNotTrainedOnIsNotConsumed) {
  ASSERT_EQ(run(words("shallow", 30, {"--prefetch-batches", "1"})).exit_code, 0);
  for (const int at : {3, 11, 17}) {
    Process process(words("deep", 30, {"--prefetch-batches", "64"}));
    wait_for_step(process, "deep", at);
    process.signal(SIGKILL);
    process.wait();
  }
  ASSERT_EQ(resume(words("deep", 30, {"--prefetch-batches", "64"})).exit_code, 0);
  EXPECT_EQ(ledger("deep"), ledger("shallow"));
  RecordProperty("trials", 3);
}

TEST_F(RunFault, Row66_ASignalDuringTheStartLosesNothing) {
  ASSERT_EQ(run(words("calm", 20)).exit_code, 0);
  int trials = 0;
  for (const int signal : {SIGUSR1, SIGTERM})
    for (int delay_ms = 0; delay_ms <= 400; delay_ms += 40, ++trials) {
      Process process(words("hasty", 20));
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
      process.signal(signal);
      // Before its handlers are there a signal ends it as the kernel does; then it saves within a step, or is
      // done.
      EXPECT_THAT(process.wait().exit_code, AnyOf(0, kSaved, 128 + signal)) << delay_ms;
    }
  ASSERT_EQ(resume(words("hasty", 20)).exit_code, 0);
  EXPECT_EQ(ledger("hasty"), ledger("calm"));
  RecordProperty("trials", trials);
}

TEST_F(RunFault, Row77_AWallClockThatJumpsChangesNothing) {
  ASSERT_EQ(run(mpirun(2, words("timely", 40))).exit_code, 0);
  Words jumping = words("jumping", 40, {"--save-every-minutes", "1000"});
  jumping.insert(jumping.end(), {"--watchdog-seconds", "20"});
  jumping.insert(jumping.begin(), {"env", std::string("LD_PRELOAD=") + DM_LIAR, "DM_LIE=clock"});
  Process process(mpirun(2, jumping));
  wait_for_step(process, "jumping", 10);
  process.signal(SIGUSR1);
  EXPECT_EQ(process.wait().exit_code, kSaved);
  const Outcome outcome = resume(mpirun(2, jumping));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(ledger("jumping"), ledger("timely"));
  std::set<std::string> years;  // as the log saw them
  std::istringstream lines(log("jumping"));
  for (std::string line; std::getline(lines, line);) years.insert(line.substr(0, 4));
  EXPECT_GT(years.size(), 1u) << "the clock did not jump";
  expect_verifies("jumping");
}

}  // namespace
}  // namespace dm::test
