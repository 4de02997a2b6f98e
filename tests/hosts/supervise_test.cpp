// launch/supervise: what it runs again, with which hosts, and when it gives up. Hosts are network namespaces,
// as in hosts_test.cpp; a lost host is one whose processes are killed and whose namespace is gone.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

Words supervised(const Words& options, const Words& command) {
  Words all{DM_SUPERVISE};
  all.insert(all.end(), options.begin(), options.end());
  all.emplace_back("--");
  all.insert(all.end(), command.begin(), command.end());
  return all;
}

// --- what it does with an exit code, without training ---

class Supervise : public testing::Test {
 protected:
  /// A command that ends with these codes, one after the other, and appends "{"step": N}" of each where N is
  /// not 0.
  Words ending_with(const std::vector<std::pair<int, int>>& codes_and_steps) {
    std::string script = "n=$(cat " + folder_ / "count" + " 2>/dev/null || echo 0); echo $((n + 1)) >" +
                         folder_ / "count" + "\ncase $n in\n";
    for (size_t i = 0; i < codes_and_steps.size(); ++i) {
      const auto [code, step] = codes_and_steps[i];
      const std::string metrics =
          step == 0 ? "" : fmt::format("echo '{{\"step\": {}}}' >>{}; ", step, folder_ / "run/metrics.jsonl");
      script += fmt::format("{}) {} exit {};;\n", i, metrics, code);
    }
    write_text(folder_ / "job", script + "esac\nexit 99\n");
    run({"mkdir", "-p", folder_ / "run"});
    write_text(folder_ / "run/metrics.jsonl",
               "{}\n");  // the first of the lines it looks at may be half a one
    return {"sh", folder_ / "job", "--run-dir", folder_ / "run"};
  }
  TemporaryFolder folder_;
};

TEST_F(Supervise, RunsAgainAfterALossAndHandsOnEveryOtherEnd) {
  for (const int code : {0, 64, 65, 70, 73, 74, 75, 77, 78}) {
    write_text(folder_ / "count", "0");
    EXPECT_EQ(run(supervised({}, ending_with({{code, 0}}))).exit_code, code);
    write_text(folder_ / "count", "0");
    EXPECT_EQ(run(supervised({}, ending_with({{71, 1}, {code, 0}}))).exit_code, code);
  }
  for (const int code : {71, 137, 143}) {
    write_text(folder_ / "count", "0");
    EXPECT_EQ(run(supervised({}, ending_with({{code, 1}, {0, 0}}))).exit_code, 0) << code;
  }
}

TEST_F(Supervise, WaitsLongerEachTimeAndGivesUpAfterThreeLossesWithoutAStep) {
  const auto begin = Clock::now();
  const Outcome outcome = run(supervised({}, ending_with({{71, 5}, {71, 0}, {71, 0}})));
  EXPECT_EQ(outcome.exit_code, 78);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("ended with 71 after step 5; again in 1 s"), HasSubstr("again in 2 s"),
                    HasSubstr("lost 3 times after step 5: giving up")));
  EXPECT_GE(seconds_since(begin), 3);
  EXPECT_EQ(read_text(folder_ / "count"), "3\n");
}

TEST_F(Supervise, ANewStepCountsAnew) {
  const Outcome outcome =
      run(supervised({"--tries", "2"}, ending_with({{71, 1}, {71, 2}, {71, 3}, {71, 4}, {0, 0}})));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, Not(HasSubstr("again in 2 s")));
}

TEST_F(Supervise, HandsSignalsOn) {
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) {
    Process process(supervised(
        {}, {"sh", "-c", "trap 'exit 75' USR1 TERM INT; echo ready; while :; do sleep 0.05; done"}));
    while (process.running() && process.output_so_far().empty())
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    process.signal(signal);
    EXPECT_EQ(process.wait(std::chrono::seconds(20)).exit_code, 75) << signal;
  }
}

TEST_F(Supervise, AJobThatIsToldToEndAndLooksLostIsNotRunAgain) {
  Process process(
      supervised({}, {"sh", "-c", "trap 'exit 143' TERM; echo started; while :; do sleep 0.05; done"}));
  while (process.running() && process.output_so_far().empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.signal(SIGTERM);
  const Outcome outcome = process.wait(std::chrono::seconds(20));
  EXPECT_EQ(outcome.exit_code, 143);
  EXPECT_EQ(outcome.out, "started\n");
}

TEST_F(Supervise, ASignalBetweenTwoTriesEndsIt) {
  Process process(supervised({}, ending_with({{71, 3}, {71, 0}, {0, 0}})));
  while (process.running() && process.output_so_far().find("again in 2 s") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(std::chrono::seconds(20)).exit_code, 75);
  EXPECT_EQ(read_text(folder_ / "count"), "2\n") << "started again all the same";
}

TEST_F(Supervise, OptionsThatCannotBeAreRefused) {
  EXPECT_EQ(run(supervised({"--spares", "a"}, {"true"})).exit_code, 64);
  EXPECT_EQ(run(supervised({"--hosts", folder_ / "none"}, {"true"})).exit_code, 64);
  EXPECT_EQ(run(supervised({"--tries", "0"}, {"true"})).exit_code, 64);
  EXPECT_EQ(run(supervised({}, {folder_ / "no-such-program"})).exit_code, 64);
}

// --- training ---

/// Steps and hashes of sample ids: what remains the same on another number of ranks.
Words samples(const std::string& ledger) {
  Words lines;
  std::istringstream in(ledger);
  for (std::string step, loss, ids, state; in >> step >> loss >> ids >> state;)
    lines.push_back(step + " " + ids);
  return lines;
}

class SupervisedTraining : public testing::Test {
 protected:
  static constexpr int kSteps = 150;

  void SetUp() override { prepare_sample(folder_.path()); }
  Words words(const std::string& name) const { return train_words(folder_.path(), name, kSteps, saves_); }
  /// From now on runs have snapshots in memory alone, and no checkpoint before their end.
  void save_in_memory() {
    saves_ = {"--save-every",
              "0",
              "--save-every-minutes",
              "0",
              "--memory-snapshot-every",
              std::to_string(kSnapshotEvery),
              "--memory-dir",
              folder_ / "memory"};
    run({"mkdir", folder_ / "memory"});
  }
  /// The step of the snapshot that the run went on from, -1 when there was none.
  int64_t taken_from_memory() const {
    const std::string log = read_text(folder_ / "run/logs/rank-00000.log"), memory = folder_ / "memory";
    const size_t line = log.find(memory), after = log.find("going on after step ", line);
    if (line == std::string::npos || after == std::string::npos) return -1;
    return std::stoll(log.substr(after + std::string_view("going on after step ").size()));
  }
  static constexpr int kSnapshotEvery = 7;
  int64_t lines() const {
    const std::string text = read_text(folder_ / "run.ledger");
    return std::count(text.begin(), text.end(), '\n');
  }
  void wait_for_step(Process& process, int step) const {
    while (process.running() && lines() < step) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  /// Seconds until a step is done that had not been done before.
  double until_new_step(Process& process) const {
    const auto begin = Clock::now();
    const int64_t before = lines();
    wait_for_step(process, static_cast<int>(before) + 1);
    return seconds_since(begin);
  }
  TemporaryFolder folder_;
  Words saves_{"--save-every", "20"};
};

TEST_F(SupervisedTraining, ARankOfFourIsKilledAndTheRunGoesOn) {
  Process process(supervised({}, mpirun(4, words("run"))));
  wait_for_step(process, 50);
  ::kill(ranks_of(folder_ / "run").at(2), SIGKILL);
  const double seconds = until_new_step(process);
  std::printf("next new step %.1f s after the kill\n", seconds);
  const Outcome outcome = process.wait();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("supervise: ended with 137 after step"));
  ASSERT_EQ(run(mpirun(4, words("whole"))).exit_code, 0);
  EXPECT_EQ(read_text(folder_ / "run.ledger"), read_text(folder_ / "whole.ledger"));
}

TEST_F(SupervisedTraining, AfterAKillItGoesOnFromMemory) {
  save_in_memory();
  Process process(supervised({}, mpirun(4, words("run"))));
  wait_for_step(process, 50);
  ::kill(ranks_of(folder_ / "run").at(1), SIGKILL);
  const Outcome outcome = process.wait();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_GE(taken_from_memory(), 50 - 2 * kSnapshotEvery);  // the last may have been in flight
  ASSERT_EQ(run(mpirun(4, words("whole"))).exit_code, 0);
  EXPECT_EQ(read_text(folder_ / "run.ledger"), read_text(folder_ / "whole.ledger"));
  EXPECT_EQ(run({"ls", folder_ / "memory"}).out, "") << "left in memory at the end";
}

class SupervisedHosts : public SupervisedTraining {
 protected:
  static constexpr int kHosts = 3;

  void SetUp() override {
    SupervisedTraining::SetUp();
    const Outcome up = run({DM_HOSTS_SCRIPT, "up", prefix_, std::to_string(kHosts), "slots=2"});
    if (up.exit_code != 0) GTEST_SKIP() << "network namespaces need root and CAP_NET_ADMIN: " << up.err;
    std::istringstream lines(up.out);
    for (std::string line; std::getline(lines, line);) hosts_.push_back(line);
    write_text(folder_ / "hosts", hosts_.at(0) + "\n" + hosts_.at(1) + "\n");
  }
  void TearDown() override { run({DM_HOSTS_SCRIPT, "down", prefix_, std::to_string(kHosts)}); }

  /// Four ranks on the first two hosts, from the first.
  Words command(const std::string& name) const {
    Words all{"mpirun", "--hostfile", folder_ / "hosts"};
    for (const char* word : {"--mca", "plm_rsh_agent", DM_HOSTS_SCRIPT, "--mca", "btl_tcp_if_include", "eth0",
                             "--mca", "oob_tcp_if_include", "eth0", "-n", "4"})
      all.emplace_back(word);
    const Words program = words(name);
    all.insert(all.end(), program.begin(), program.end());
    return all;
  }
  Words on_first_host(const Words& more) const {
    Words all{"env", "DM_HOSTS=" + prefix_, DM_HOSTS_SCRIPT, "run", prefix_, "0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  /// What a run comes to that loses its second host after 50 steps.
  Outcome lose_a_host(const Words& options) const {
    Words all{"--hosts", folder_ / "hosts"};
    all.insert(all.end(), options.begin(), options.end());
    Process process(on_first_host(supervised(all, command("run"))));
    wait_for_step(process, 50);
    EXPECT_EQ(run({DM_HOSTS_SCRIPT, "lose", prefix_, "1"}).exit_code, 0);
    // And what it held in its memory.
    run({"sh", "-c", "rm -rf " + (folder_ / "memory") + "/*." + prefix_ + "1"});
    std::printf("next new step %.1f s after the loss\n", until_new_step(process));
    return process.wait();
  }

  // Short: interfaces have names of 15 letters at most.
  const std::string prefix_ = "ds" + std::to_string(getpid() % 100000);
  Words hosts_;
};

TEST_F(SupervisedHosts, ASpareTakesTheLostHostsPlace) {
  const Outcome outcome = lose_a_host({"--spares", "10.87.0.3"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("host 10.87.0.2 is lost; 10.87.0.3 takes its place"));
  EXPECT_THAT(read_text(folder_ / "hosts"),
              AllOf(HasSubstr("10.87.0.3 slots=2"), Not(HasSubstr("10.87.0.2"))));
  ASSERT_EQ(run(mpirun(4, words("whole"))).exit_code, 0);
  EXPECT_EQ(read_text(folder_ / "run.ledger"), read_text(folder_ / "whole.ledger"));
}

TEST_F(SupervisedHosts, ALostHostCostsTheStepsSinceTheLastSnapshotAndNoCheckpointIsRead) {
  save_in_memory();
  const Outcome outcome = lose_a_host({"--spares", "10.87.0.3"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_GE(taken_from_memory(), 50 - 2 * kSnapshotEvery);
  // The first rank of the spare host, which had nothing.
  EXPECT_THAT(read_text(folder_ / "run/logs/rank-00002.log"),
              HasSubstr("fetched from the memory of another host"));
  ASSERT_EQ(run(mpirun(4, words("whole"))).exit_code, 0);
  EXPECT_EQ(read_text(folder_ / "run.ledger"), read_text(folder_ / "whole.ledger"));
  EXPECT_EQ(run({"ls", folder_ / "memory"}).out, "") << "left in memory at the end";
}

TEST_F(SupervisedHosts, WithoutASpareItGoesOnWithFewerRanks) {
  const Outcome outcome = lose_a_host({});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("host 10.87.0.2 is lost and no spare is left"),
                                 HasSubstr("going on with 2 ranks")));
  ASSERT_EQ(run(mpirun(4, words("whole"))).exit_code, 0);
  // Rounding is another from there on; no sample is lost or repeated.
  EXPECT_EQ(samples(read_text(folder_ / "run.ledger")), samples(read_text(folder_ / "whole.ledger")));
  EXPECT_EQ(run({diffmamba(), "verify", folder_ / "run"}).exit_code, 0);
}

}  // namespace
}  // namespace dm::test
