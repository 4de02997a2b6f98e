#include "launch/failure.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace dm::launch {
namespace {

void lose_the_gpu() {
  throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, 700,
                              "an illegal memory access was encountered");
}
void fill_the_disk() { DM_FAIL(ExitCode::io, "no space on the disk"); }

struct ThrowsWhenItEnds {
  ~ThrowsWhenItEnds() { lose_the_gpu(); }  // which no exception may leave
};

TEST(FailureDeathTest, AnExceptionThatLeavesADestructorEndsTheProcessAsTheSameFailure) {
  const auto end = [] {
    end_uncaught_exceptions_as_failures();
    try {
      const ThrowsWhenItEnds tensor;
    } catch (...) {  // not reached
    }
  };
  EXPECT_EXIT(end(), testing::ExitedWithCode(71), "the GPU failed: .*an illegal memory access");
}

TEST(FailureDeathTest, AnErrorOfOursKeepsItsCodeAndText) {
  const auto end = []() noexcept {
    end_uncaught_exceptions_as_failures();
    fill_the_disk();
  };
  EXPECT_EXIT(end(), testing::ExitedWithCode(74), "no space on the disk");
}

}  // namespace
}  // namespace dm::launch
