#include "checkpoints/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dm::checkpoints {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Retention, KeepsTheLastOnesAndEveryNth) {
  EXPECT_THAT(steps_to_delete({100, 200, 300, 400, 500}, 2, 0, 500), ElementsAre(300, 200, 100));
  EXPECT_THAT(steps_to_delete({500, 100, 400, 200, 300}, 2, 200, 500), ElementsAre(300, 100));
  EXPECT_THAT(steps_to_delete({100, 200}, 3, 0, 200), IsEmpty());
  EXPECT_THAT(steps_to_delete({0, 50, 100}, 1, 100, 100), ElementsAre(50))
      << "step 0 is a multiple of everything";
  EXPECT_THAT(steps_to_delete({}, 1, 0, 0), IsEmpty());
}

TEST(Retention, NeverDeletesWhatWasJustSaved) {
  // An older step saved again while newer ones exist.
  EXPECT_THAT(steps_to_delete({100, 200, 300}, 1, 0, 100), ElementsAre(200));
}

}  // namespace
}  // namespace dm::checkpoints
