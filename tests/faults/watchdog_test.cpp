// Rows 55 to 57 and 59: a rank of a real training run dies, stops, gets nowhere, or is slow.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <regex>
#include <thread>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

constexpr int kLost = 71;
constexpr double kWatchdog = 3;  // seconds
// What a busy machine adds to the promise of two seconds: mpirun's own end, and rounding to heartbeats.
constexpr double kSlack = 3;

class Watched : public testing::Test {
 protected:
  void SetUp() override { prepare_sample(folder_.path()); }

  Words words(int steps, const Words& more = {}) const {
    Words all = train_words(folder_.path(), "run", steps);
    all.insert(all.end(), more.begin(), more.end());
    all.insert(all.end(), {"--watchdog-seconds", fmt::format("{}", kWatchdog)});
    return all;
  }
  /// Three ranks, of which strace does something to the calls of rank 1: "pread64:..." of this dataset's
  /// shard alone, where one is named.
  Words with_rank_1(const std::string& injection, const Words& program,
                    const std::string& dataset = "") const {
    Words all = mpirun(1, program);
    all.insert(all.end(), {":", "-n", "1", "strace", "-f", "-qq", "-o", folder_ / "strace", "-e",
                           "trace=" + injection.substr(0, injection.find(':')), "-e", "inject=" + injection});
    if (!dataset.empty()) all.insert(all.end(), {"-P", folder_ / (dataset + "/tokens-00000-of-00001.h5")});
    all.insert(all.end(), program.begin(), program.end());
    all.insert(all.end(), {":", "-n", "1"});
    all.insert(all.end(), program.begin(), program.end());
    return all;
  }
  void wait_for_step(Process& process, int step) const {
    const std::string line = fmt::format("\n{} ", step);
    while (process.running() && read_text(folder_ / "run.ledger").find(line) == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  /// Does that to one rank of three in the middle of a new run; returns what the job ended with and how long
  /// it took to.
  std::pair<Outcome, double> hit(int rank, int signal) const {
    std::filesystem::remove_all(folder_ / "run");
    std::filesystem::remove(folder_ / "run.ledger");
    Process process(mpirun(3, words(100000)));
    wait_for_step(process, 6);
    const auto ranks = ranks_of(folder_ / "run");
    if (ranks.size() != 3)
      throw std::runtime_error("the ranks are not to be seen:\n" + process.output_so_far());
    const auto begin = Clock::now();
    ::kill(ranks.at(rank), signal);
    const Outcome outcome = process.wait();
    return {outcome, std::chrono::duration<double>(Clock::now() - begin).count()};
  }
  std::string log(int rank) const {
    return read_text(folder_ / fmt::format("run/logs/rank-{:05}.log", rank));
  }

  TemporaryFolder folder_;
};

TEST_F(Watched, Row55_AKilledRankEndsTheJob) {
  for (const int rank : {0, 2}) {
    const auto [outcome, seconds] = hit(rank, SIGKILL);
    EXPECT_EQ(outcome.exit_code, 128 + SIGKILL) << outcome.err;
    EXPECT_LT(seconds, 5) << "rank " << rank;
  }
  RecordProperty("trials", 2);
}

TEST_F(Watched, Row56_AStoppedRankIsNamedWithItsStack) {
  for (const int rank : {0, 2}) {
    const auto [outcome, seconds] = hit(rank, SIGSTOP);
    EXPECT_EQ(outcome.exit_code, kLost) << outcome.err;
    EXPECT_LT(seconds, kWatchdog + 2 + kSlack);
    const std::string all = outcome.out + outcome.err + log(1);
    EXPECT_THAT(all, AllOf(HasSubstr("no sign of life for 3 s"),
                           HasSubstr(fmt::format("  rank {} (process ", rank))));
    EXPECT_THAT(log(rank), HasSubstr("where this rank is:"));
    std::printf("rank %d stopped: the job ended %.1f s later\n", rank, seconds);
  }
  RecordProperty("trials", 2);
}

TEST_F(Watched, Row57_ARankThatGetsNowhereIsNamedWhileItsHeartGoesOn) {
  // One read of the data never comes back; its thread of heartbeats is well.
  const auto begin = Clock::now();
  const Outcome outcome =
      run(with_rank_1("pread64:delay_enter=600000000:when=40", words(100000), "data/train"));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  EXPECT_EQ(outcome.exit_code, kLost) << outcome.err;
  EXPECT_THAT(
      outcome.out + outcome.err,
      AllOf(HasSubstr("nothing moved for 3 s: the others wait in an exchange for\n  rank 1 (process "),
            Not(HasSubstr("  rank 2 (process "))));
  EXPECT_THAT(log(1), HasSubstr("where this rank is:"));
  std::printf("hung for ever: the whole job took %.1f s\n", seconds);
}

TEST_F(Watched, Row59_ASlowRankIsReportedWithinTwentyStepsAndNotKilled) {
  // The reads with which a dataset is opened are left alone, or nothing would move for longer than the
  // watchdog waits.
  constexpr int kReadsBefore = 40, kSteps = 42;
  const Words program = words(kSteps, {"--reader-threads", "1", "--prefetch-batches", "1"});
  const Outcome outcome = run(
      with_rank_1(fmt::format("pread64:delay_enter=80000:when={}+", kReadsBefore), program, "data/train"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string text = outcome.out + outcome.err;
  static const std::regex report("step ([0-9]+): rank ([0-9]+) \\(process [0-9]+ on [^)]*\\) is busy for");
  const std::sregex_iterator first(text.begin(), text.end(), report);
  ASSERT_NE(first, std::sregex_iterator()) << text;
  // A step has two rows here, so the slow ones begin with step 20 at the latest.
  EXPECT_LE(std::stoi((*first)[1]), kReadsBefore / 2 + 20);
  for (auto one = first; one != std::sregex_iterator(); ++one) EXPECT_EQ((*one)[2], "1");
}

// Long work without exchanges: the others wait for longer than the watchdog does, and it sees that the rank
// gets on.
TEST_F(Watched, EvaluatingIsASignOfLife) {
  const Words program =
      words(6, {"--eval-data", folder_ / "data/heldout", "--eval-batch", "1", "--eval-rows", "180"});
  const auto begin = Clock::now();
  const Outcome outcome = run(with_rank_1("pread64:delay_enter=60000", program, "data/heldout"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_GT(std::chrono::duration<double>(Clock::now() - begin).count(), kWatchdog + 2)
      << "nothing was proved";
}
TEST_F(Watched, SavingIsASignOfLife) {
  const auto begin = Clock::now();
  const Outcome outcome = run(with_rank_1("pwrite64:delay_enter=200000", words(6)));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_GT(std::chrono::duration<double>(Clock::now() - begin).count(), kWatchdog + 2)
      << "nothing was proved";
}

}  // namespace
}  // namespace dm::test
