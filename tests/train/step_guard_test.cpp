// What is skipped and why, and that a restored guard decides as the one it was saved from.

#include "train/step_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/rng.h"

namespace dm::train {
namespace {

/// A step over 10 targets with this mean loss and gradient norm of the mean.
StepFacts facts(double loss, double norm) {
  return {.nats = loss * 10, .targets = 10, .gradient_squares = norm * norm * 100};
}

/// A window of ordinary steps: losses and norms uniform in [1, 2).
void fill(StepGuard& guard, int64_t steps) {
  const CounterRng random(1, "step_guard_test");
  for (int64_t i = 0; i < steps; ++i)
    guard.judge(facts(1 + random.uniform(static_cast<uint64_t>(2 * i)),
                      1 + random.uniform(static_cast<uint64_t>(2 * i + 1))));
}

TEST(StepFacts, MeansAreOverTheCountedTargets) {
  const StepFacts f{.nats = 12, .targets = 4, .gradient_squares = 64};
  EXPECT_EQ(f.loss(), 3);
  EXPECT_EQ(f.gradient_norm(), 2);
}

TEST(StepGuard, SkipsWhatIsNotFinite) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  StepGuard guard(6, 8);
  for (const double bad : {inf, -inf, nan}) {
    EXPECT_EQ(guard.judge(facts(bad, 1)), Verdict::not_finite);
    EXPECT_EQ(guard.judge({.nats = 10, .targets = 10, .gradient_squares = bad}), Verdict::not_finite);
  }
  EXPECT_EQ(guard.skipped_in_a_row(), 6);
  EXPECT_EQ(guard.judge(facts(1, 1)), Verdict::update);
  EXPECT_EQ(guard.skipped_in_a_row(), 0);
}

TEST(StepGuard, StepWithoutTargetsIsNeitherUsedNorAFailure) {
  StepGuard guard(6, 8);
  EXPECT_EQ(guard.judge({}), Verdict::no_targets);
  EXPECT_EQ(guard.skipped_in_a_row(), 0);
}

TEST(StepGuard, SpikeOfLossOrNormIsSkippedOnceHalfAWindowWasSeen) {
  for (const auto& spike : {facts(10, 1.5), facts(1.5, 10)}) {
    StepGuard young(6, 32), ready(6, 32), off(0, 32);
    fill(young, 15), fill(ready, 16), fill(off, 100);
    EXPECT_EQ(young.judge(spike), Verdict::update);
    EXPECT_EQ(ready.judge(spike), Verdict::spike);
    EXPECT_EQ(off.judge(spike), Verdict::update);
  }
}

TEST(StepGuard, ThresholdIsMeanPlusSigmaSampleDeviations) {
  // 1, 2, 3, 4: mean 2.5, sample deviation sqrt(5 / 3) = 1.29099; 3 sigma above the mean is 6.37298.
  const auto judge_after_four = [](double loss) {
    StepGuard guard(3, 8);
    for (const double x : {1, 2, 3, 4}) guard.judge(facts(x, 1));
    return guard.judge(facts(loss, 1));
  };
  EXPECT_EQ(judge_after_four(6.3729), Verdict::update);
  EXPECT_EQ(judge_after_four(6.3731), Verdict::spike);
}

TEST(StepGuard, FallsAreNoSpikesAndFlatWindowsKnowNone) {
  StepGuard guard(6, 16);
  for (int i = 0; i < 16; ++i) guard.judge(facts(5, 1));
  EXPECT_EQ(guard.judge(facts(5 * (1 + 5e-3), 1)), Verdict::update);  // within 6 times 1e-3
  EXPECT_EQ(guard.judge(facts(0.1, 0.01)), Verdict::update);
}

TEST(StepGuard, LevelThatStaysIsAcceptedInTime) {
  StepGuard guard(6, 16);
  fill(guard, 16);
  int64_t skipped = 0;
  while (skipped < 100 && guard.judge(facts(30, 1.5)) == Verdict::spike) ++skipped;
  EXPECT_GE(skipped, 1);
  EXPECT_LT(skipped, 16);
}

TEST(StepGuard, RestoredGuardDecidesAlike) {
  const CounterRng random(7, "restored guard");
  StepGuard original(2, 16);
  fill(original, 13);
  original.judge(facts(NAN, 1));
  StepGuard copy(2, 16);
  copy.restore(parse_json(original.state().dump(), "test"), "test");  // through text, as in a manifest
  int64_t spikes = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    const StepFacts f = facts(std::exp(random.normal(2 * i)), std::exp(random.normal(2 * i + 1)));
    const Verdict verdict = original.judge(f);
    EXPECT_EQ(verdict, copy.judge(f)) << "step " << i;
    spikes += verdict == Verdict::spike;
  }
  EXPECT_GT(spikes, 0);  // the comparison has seen both verdicts
  EXPECT_LT(spikes, 200);
  EXPECT_EQ(original.state(), copy.state());
}

TEST(StepGuard, DamagedStateIsRefused) {
  StepGuard guard(6, 16);
  for (const char* text : {R"({})", R"({"losses": 1, "norms": [], "skipped_in_a_row": 0})",
                           R"({"losses": [1, "x"], "norms": [1, 2], "skipped_in_a_row": 0})",
                           R"({"losses": [1], "norms": [], "skipped_in_a_row": 0})"})
    EXPECT_THROW(guard.restore(parse_json(text, "test"), "test"), Error) << text;
}

TEST(Agree, GroupOfOneKeepsItsFacts) {
  const auto alone = make_single_process_collectives();
  const StepFacts f =
      agree({.nats = 3, .targets = 2, .gradient_squares = 4, .stop = true, .time_up = true}, *alone);
  EXPECT_EQ(f.nats, 3);
  EXPECT_TRUE(f.stop && f.time_up && !f.save_due);
}

}  // namespace
}  // namespace dm::train
