// One run on changing numbers of ranks: no sample lost or repeated, the loss follows the one-rank run to
// rounding.

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <sstream>
#include <thread>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

struct Line {
  int64_t step;
  double loss;
  std::string samples;
};

/// Ledger lines are "step loss-bits samples state", see docs/training.md.
std::vector<Line> ledger(const std::string& path) {
  std::vector<Line> lines;
  std::istringstream text(read_text(path));
  std::string bits, state;
  for (Line line; text >> line.step >> bits >> line.samples >> state;) {
    const uint64_t raw = std::stoull(bits, nullptr, 16);
    std::memcpy(&line.loss, &raw, sizeof raw);
    lines.push_back(line);
  }
  return lines;
}

TEST(Elastic, ThreeTwoOneFourRanksSeeEachSampleOnceAndTheSameLoss) {
  const TemporaryFolder folder;
  prepare_sample(folder.path());
  constexpr int kSteps = 40;
  ASSERT_EQ(run(train_words(folder.path(), "alone", kSteps)).exit_code, 0);
  const std::vector<Line> expected = ledger(folder / "alone.ledger");
  ASSERT_EQ(expected.size(), kSteps);

  const int worlds[] = {3, 2, 1, 4};
  for (int part = 0; part < 4; ++part) {
    Process process(on_ranks(worlds[part], train_words(folder.path(), "moving", kSteps)));
    if (part < 3) {
      const size_t until = static_cast<size_t>(10 * (part + 1));
      while (process.running() && ledger(folder / "moving.ledger").size() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      process.signal(SIGUSR1);
    }
    const Outcome outcome = process.wait();
    ASSERT_EQ(outcome.exit_code, part < 3 ? 75 : 0) << outcome.err;
  }

  const std::vector<Line> moved = ledger(folder / "moving.ledger");
  ASSERT_EQ(moved.size(), expected.size());
  for (size_t i = 0; i < moved.size(); ++i) {
    EXPECT_EQ(moved[i].step, expected[i].step);
    EXPECT_EQ(moved[i].samples, expected[i].samples) << "step " << moved[i].step;
    // float32 sums in another order: 1e-3 is what forty steps of a learning rate of 1e-2 may make of it.
    EXPECT_LE(std::abs(moved[i].loss - expected[i].loss), 1e-3 * expected[i].loss)
        << "step " << moved[i].step;
  }
}

}  // namespace
}  // namespace dm::test
