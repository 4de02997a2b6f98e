// The choice of instruction set, and working memory.

#include "kernels/simd/level.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "kernels/simd/scratch.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

TEST(CpuLevel, FollowsTheWish) {
  EXPECT_EQ(choose_cpu_level(nullptr, CpuLevel::v4), CpuLevel::v4);
  EXPECT_EQ(choose_cpu_level("", CpuLevel::v3), CpuLevel::v3);
  EXPECT_EQ(choose_cpu_level("baseline", CpuLevel::v4), CpuLevel::baseline);
  EXPECT_EQ(choose_cpu_level("v3", CpuLevel::v3), CpuLevel::v3);
}

TEST(CpuLevel, RefusesWhatItCannotObey) {
  EXPECT_EQ(refusal([] { choose_cpu_level("v5", CpuLevel::v4); }),
            "DM_CPU_LEVEL=v5: unknown level; known are baseline, v3 and v4");
  EXPECT_EQ(refusal([] { choose_cpu_level("V3", CpuLevel::v4); }),
            "DM_CPU_LEVEL=V3: unknown level; known are baseline, v3 and v4");
  EXPECT_EQ(refusal([] { choose_cpu_level("v4", CpuLevel::v3); }),
            "DM_CPU_LEVEL=v4: this processor has levels up to v3; unset it or choose a lower one");
}

// Each in a process of its own, since the level is chosen once.
TEST(CpuLevelDeathTest, ReadsTheEnvironmentOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto exit_with_level = [](const char* wish) {
    setenv("DM_CPU_LEVEL", wish, 1);
    try {
      std::exit(static_cast<int>(cpu_level()));
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      std::exit(static_cast<int>(error.code()));
    }
  };
  EXPECT_EXIT(exit_with_level("baseline"), testing::ExitedWithCode(static_cast<int>(CpuLevel::baseline)), "");
  EXPECT_EXIT(exit_with_level(""), testing::ExitedWithCode(static_cast<int>(best_cpu_level())), "");
  EXPECT_EXIT(exit_with_level("avx"), testing::ExitedWithCode(64), "DM_CPU_LEVEL=avx: unknown level");
}

TEST(Scratch, IsAlignedAndPoisonedWhenAsked) {
  poison_scratch(true);
  double* memory = scratch<double>(1000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0u);
  EXPECT_TRUE(std::isnan(memory[0]) && std::isnan(memory[999]));
  memory[0] = 1;
  EXPECT_TRUE(std::isnan(scratch<double>(10)[0]));
  poison_scratch(false);
}

}  // namespace
}  // namespace dm::kernels::test
