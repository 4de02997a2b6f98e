// Learning rates against values worked out by hand, and the contradictions that are refused.

#include "train/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"

namespace dm::train {
namespace {

ScheduleConfig config(const std::string& schedule, int64_t warmup, double min_lr_ratio,
                      int64_t decay_steps = 0) {
  return {schedule, warmup, min_lr_ratio, decay_steps};
}

TEST(Schedule, WarmupRisesLinearlyAndReachesThePeak) {
  for (const char* name : {"cosine", "linear", "wsd", "constant"}) {
    const ScheduleConfig c = config(name, 4, 0.1);
    EXPECT_DOUBLE_EQ(schedule_factor(c, 0, 100), 0.25) << name;
    EXPECT_DOUBLE_EQ(schedule_factor(c, 1, 100), 0.5) << name;
    EXPECT_DOUBLE_EQ(schedule_factor(c, 3, 100), 1.0) << name;
    EXPECT_DOUBLE_EQ(schedule_factor(c, 4, 100), 1.0) << name;
  }
}

TEST(Schedule, CosineIsHalfWayInTheMiddleAndAtTheMinimumAfterTheEnd) {
  const ScheduleConfig c = config("cosine", 10, 0.2);
  EXPECT_DOUBLE_EQ(schedule_factor(c, 10 + 45, 100), 0.2 + 0.8 * 0.5);
  // A third of the way: cos(pi / 3) = 1/2, so three quarters of the decay remain.
  EXPECT_NEAR(schedule_factor(c, 10 + 30, 100), 0.2 + 0.8 * 0.75, 1e-15);  // one rounding of the cosine
  EXPECT_DOUBLE_EQ(schedule_factor(c, 100, 100), 0.2);
  EXPECT_DOUBLE_EQ(schedule_factor(c, 1000, 100), 0.2);
  EXPECT_GT(schedule_factor(c, 99, 100), 0.2);
}

TEST(Schedule, LinearFallsInEqualSteps) {
  const ScheduleConfig c = config("linear", 0, 0);
  for (int64_t step = 0; step < 8; ++step)
    EXPECT_DOUBLE_EQ(schedule_factor(c, step, 8), 1 - static_cast<double>(step) / 8);
}

TEST(Schedule, DecayStepsFixTheEndOfCosineAndLinearWhateverTheRunsLength) {
  for (const char* name : {"cosine", "linear"}) {
    const ScheduleConfig c = config(name, 5, 0.1, 20);
    for (int64_t step = 0; step < 40; ++step) {
      EXPECT_EQ(schedule_factor(c, step, 100), schedule_factor(c, step, 0)) << name << " at step " << step;
      EXPECT_EQ(schedule_factor(c, step, 100), schedule_factor(c, step, 1000)) << name << " at step " << step;
    }
    EXPECT_DOUBLE_EQ(schedule_factor(c, 25, 0), 0.1) << name;
  }
}

TEST(Schedule, WsdIsConstantUntilItsLastTenth) {
  const ScheduleConfig c = config("wsd", 10, 0.5);
  for (int64_t step = 10; step <= 90; ++step) EXPECT_EQ(schedule_factor(c, step, 100), 1.0) << step;
  EXPECT_DOUBLE_EQ(schedule_factor(c, 95, 100), 0.75);
  EXPECT_DOUBLE_EQ(schedule_factor(c, 100, 100), 0.5);
  EXPECT_DOUBLE_EQ(schedule_factor(config("wsd", 10, 0.5, 50), 75, 100), 0.75);
}

TEST(Schedule, IsFiniteAndWithinBoundsEverywhere) {
  for (const char* name : {"cosine", "linear", "wsd", "constant"})
    for (const int64_t total : {1, 2, 3, 7, 100})
      for (int64_t warmup = 0; warmup <= total; ++warmup)
        for (int64_t step = 0; step <= total; ++step) {
          const double factor = schedule_factor(config(name, warmup, 0.1), step, total);
          EXPECT_TRUE(factor > 0 && factor <= 1)
              << name << " " << total << " " << warmup << " " << step << " " << factor;
        }
}

std::string refusal(const ScheduleConfig& c, int64_t total_steps) {
  try {
    validate(c, total_steps);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

TEST(Schedule, ContradictionsAreRefusedWithTheOptionsNamed) {
  using testing::AllOf, testing::HasSubstr;
  EXPECT_THAT(refusal(config("cosine", 0, 0.1), 0),
              AllOf(HasSubstr("--schedule cosine"), HasSubstr("--steps")));
  EXPECT_THAT(refusal(config("wsd", 0, 0.1, 10), 0),
              AllOf(HasSubstr("--schedule wsd"), HasSubstr("--tokens")));
  EXPECT_THAT(refusal(config("cosine", 11, 0.1), 10), AllOf(HasSubstr("--warmup 11"), HasSubstr("--steps")));
  EXPECT_THAT(refusal(config("constant", 0, 0.1, 5), 10),
              AllOf(HasSubstr("--decay-steps 5"), HasSubstr("constant")));
  EXPECT_THAT(refusal(config("wsd", 6, 0.1, 5), 10),
              AllOf(HasSubstr("--warmup 6"), HasSubstr("--decay-steps")));
  EXPECT_EQ(refusal(config("wsd", 5, 0.1, 5), 10), "");
  EXPECT_EQ(refusal(config("constant", 3, 0.1), 0), "");
  EXPECT_EQ(refusal(config("linear", 3, 0.1, 10), 0), "");
}

}  // namespace
}  // namespace dm::train
