// The choice of instruction set, and working memory.

#include "kernels/simd/level.h"

#include <cmath>
#include <cstdint>

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
