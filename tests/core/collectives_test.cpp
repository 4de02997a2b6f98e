// The group of one, and the helpers every group has.

#include "core/collectives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/process.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;
using testing::ElementsAre;

class GroupOfOneTest : public testing::Test {
 protected:
  std::unique_ptr<Collectives> group_ = make_single_process_collectives();
};

TEST_F(GroupOfOneTest, IsRankZeroOfOne) {
  EXPECT_EQ(group_->rank(), 0);
  EXPECT_EQ(group_->size(), 1);
  group_->barrier();
}

TEST_F(GroupOfOneTest, ReductionsKeepTheValues) {
  std::vector<float> values = {1, -2.5, std::numeric_limits<float>::infinity()};
  const std::vector<float> before = values;
  for (const Reduce op : {Reduce::sum, Reduce::max, Reduce::min})
    group_->all_reduce(values.data(), 3, DType::f32, op);
  group_->broadcast(values.data(), 3, DType::f32, 0);
  EXPECT_EQ(values, before);
}

TEST_F(GroupOfOneTest, ScatterAndGatherCopy) {
  const std::vector<int32_t> input = {1, 2, 3};
  std::vector<int32_t> output(3);
  group_->reduce_scatter(input.data(), output.data(), 3, DType::i32, Reduce::sum)->wait();
  EXPECT_EQ(output, input);
  output = {0, 0, 0};
  group_->all_gather(input.data(), output.data(), 2, DType::i32)->wait();
  EXPECT_EQ(output, (std::vector<int32_t>{1, 2, 0}));
  group_->all_gather(output.data(), output.data(), 3, DType::i32)
      ->wait();  // in place, as the interface allows
  EXPECT_EQ(output, (std::vector<int32_t>{1, 2, 0}));
}

TEST_F(GroupOfOneTest, NothingIsLegal) {
  group_->all_reduce(nullptr, 0, DType::f64, Reduce::sum);
  int32_t nowhere = 5;
  group_->all_gather(nullptr, &nowhere, 0, DType::i32)->wait();
  group_->reduce_scatter(&nowhere, nullptr, 0, DType::i32, Reduce::max)->wait();
  EXPECT_EQ(nowhere, 5);
}

TEST_F(GroupOfOneTest, ThereIsNobodyElse) {
  int32_t value = 0;
  EXPECT_EQ(refusal(ExitCode::internal, [&] { group_->send(&value, 1, DType::i32, 1); }),
            "send to rank 1 in a group of one");
  EXPECT_EQ(refusal(ExitCode::internal, [&] { group_->receive(&value, 1, DType::i32, 2); }),
            "receive from rank 2 in a group of one");
  EXPECT_EQ(refusal(ExitCode::internal, [&] { group_->broadcast(&value, 1, DType::i32, 1); }),
            "broadcast from rank 1 in a group of one");
}

TEST_F(GroupOfOneTest, Helpers) {
  EXPECT_EQ(group_->all_sum(1.5), 1.5);
  EXPECT_EQ(group_->all_max(-1.5), -1.5);
  EXPECT_EQ(group_->all_max(INT64_MAX), INT64_MAX);
  EXPECT_TRUE(std::isnan(group_->all_sum(std::nan(""))));
  EXPECT_TRUE(group_->all_agree(true));
  EXPECT_FALSE(group_->all_agree(false));
  EXPECT_THAT(group_->gather_text(""), ElementsAre(""));
  EXPECT_THAT(group_->gather_text(std::string("a\0b", 3)), ElementsAre(std::string("a\0b", 3)));
}

TEST(ProcessTest, OneOfOneUntilSomebodySaysOtherwise) {
  EXPECT_EQ(process_identity().rank, 0);
  EXPECT_EQ(process_identity().world, 1);
  EXPECT_FALSE(process_identity().host.empty());
  set_process_identity(2, 5);
  EXPECT_EQ(process_identity().rank, 2);
  EXPECT_EQ(process_identity().world, 5);
  set_process_identity(0, 1);
}

}  // namespace
}  // namespace dm
