#include "dist/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/refusal.h"

namespace dm::dist {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Mesh mesh(LayoutConfig layout, int64_t world, int64_t local) { return make_mesh(layout, world, local); }

TEST(Layout, TheDataAxisTakesWhatTheOthersLeave) {
  EXPECT_EQ(mesh({}, 6, 6).size(Axis::dp), 6);
  const Mesh all = mesh({.cp = 3, .tp = 2}, 12, 4);
  EXPECT_EQ(all.size(Axis::dp), 2);
  EXPECT_EQ(all.size(Axis::cp), 3);
  EXPECT_EQ(all.size(Axis::tp), 2);
  EXPECT_EQ(mesh({.dp = 2, .tp = 4}, 8, 8).size(Axis::tp), 4);
}

TEST(Layout, WhatDoesNotFitIsRefusedWithTheLegalValues) {
  const auto refused = [](const LayoutConfig& layout, int64_t world, int64_t local) {
    return test::refusal(ExitCode::usage, [&] { make_mesh(layout, world, local); });
  };
  EXPECT_THAT(refused({.tp = 3}, 8, 8), AllOf(HasSubstr("--tp 3"), HasSubstr("legal: 1, 2, 4, 8")));
  // Four a host: eight ranks could share a layer only across hosts.
  EXPECT_THAT(refused({.tp = 8}, 8, 4), AllOf(HasSubstr("must share a host"), HasSubstr("legal: 1, 2, 4")));
  EXPECT_THAT(refused({.cp = 3, .tp = 2}, 8, 8), HasSubstr("cp may be 1, 2, 4"));
  EXPECT_THAT(refused({.dp = 3}, 8, 8), AllOf(HasSubstr("dp 3"), HasSubstr("dp is 8")));
  EXPECT_THAT(refused({.dp_shard = 3}, 8, 8),
              AllOf(HasSubstr("--dp-shard 3"), HasSubstr("legal: 0, 1, 2, 4, 8")));
}

TEST(Layout, ShardsAreAllReplicasUnlessSaidOtherwise) {
  EXPECT_EQ(shard_size({}, mesh({.cp = 2, .tp = 2}, 8, 8)), 4);
  EXPECT_EQ(shard_size({.dp_shard = 2}, mesh({.dp_shard = 2}, 8, 8)), 2);
}

}  // namespace
}  // namespace dm::dist
