#include "dist/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/error.h"

namespace dm::dist {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(int64_t world, int64_t dp, int64_t cp, int64_t tp) {
  try {
    Mesh mesh(world, dp, cp, tp);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "accepted";
}

TEST(Mesh, TensorIsFastestThenContextThenData) {
  const Mesh mesh(12, 2, 3, 2);
  EXPECT_EQ(mesh.coordinate(0), (Mesh::Coordinate{0, 0, 0}));
  EXPECT_EQ(mesh.coordinate(1), (Mesh::Coordinate{0, 0, 1}));
  EXPECT_EQ(mesh.coordinate(2), (Mesh::Coordinate{0, 1, 0}));
  EXPECT_EQ(mesh.coordinate(6), (Mesh::Coordinate{1, 0, 0}));
  EXPECT_EQ(mesh.coordinate(11), (Mesh::Coordinate{1, 2, 1}));
}

TEST(Mesh, GroupsDifferAlongOneAxis) {
  const Mesh mesh(12, 2, 3, 2);
  EXPECT_THAT(mesh.members(Axis::tp, 9), ElementsAre(8, 9));
  EXPECT_THAT(mesh.members(Axis::cp, 9), ElementsAre(7, 9, 11));
  EXPECT_THAT(mesh.members(Axis::dp, 9), ElementsAre(3, 9));
}

TEST(Mesh, RanksAndCoordinatesAreOneToOneAndGroupsPartition) {
  for (const auto& [dp, cp, tp] : {std::tuple{1, 1, 1}, {4, 1, 1}, {1, 3, 2}, {2, 3, 5}}) {
    const Mesh mesh(dp * cp * tp, dp, cp, tp);
    for (int64_t r = 0; r < dp * cp * tp; ++r) EXPECT_EQ(mesh.rank(mesh.coordinate(r)), r);
    for (const Axis axis : {Axis::dp, Axis::cp, Axis::tp}) {
      std::set<int64_t> groups;
      for (int64_t r = 0; r < dp * cp * tp; ++r) {
        groups.insert(mesh.group(axis, r));
        EXPECT_THAT(mesh.members(axis, r), testing::Contains(r));
        for (const int64_t member : mesh.members(axis, r))
          EXPECT_EQ(mesh.group(axis, member), mesh.group(axis, r));
      }
      EXPECT_EQ(static_cast<int64_t>(groups.size()) * mesh.size(axis), dp * cp * tp);
    }
  }
}

TEST(Mesh, RefusalsNameWhatWouldDo) {
  EXPECT_THAT(refusal(4, 3, 1, 1),
              HasSubstr("layout dp 3 x cp 1 x tp 1 does not place 4 ranks: with cp 1 and tp 1, dp is 4"));
  EXPECT_THAT(refusal(6, 1, 1, 4), HasSubstr("tp may be 1, 2, 3, 6"));
  EXPECT_THAT(refusal(12, 1, 5, 2), HasSubstr("with tp 2, cp may be 1, 2, 3, 6"));
  EXPECT_THAT(refusal(1, 2, 1, 1), HasSubstr("does not place 1 rank: "));
  EXPECT_THAT(refusal(4, 0, 1, 1), HasSubstr("each must be at least 1"));
  EXPECT_THAT(refusal(4, -4, -1, 1), HasSubstr("each must be at least 1"));
  const int64_t wraps = (int64_t{1} << 62) + 1;  // times 4 is 4 again in 64 bits
  EXPECT_THAT(refusal(4, wraps, 4, 1), HasSubstr("does not place"));
}

}  // namespace
}  // namespace dm::dist
