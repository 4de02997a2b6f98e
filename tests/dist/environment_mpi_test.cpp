#include <gtest/gtest.h>

#include "core/process.h"
#include "dist/mesh.h"
#include "tests/support/mpi_environment.h"

namespace dm::dist {
namespace {

TEST(Environment, KnowsItsPlace) {
  auto& mpi = test::mpi();
  EXPECT_GE(mpi.rank(), 0);
  EXPECT_LT(mpi.rank(), mpi.world());
  EXPECT_EQ(mpi.local_rank(), mpi.rank()) << "the tests run on one host";
  EXPECT_EQ(mpi.local_world(), mpi.world());
  EXPECT_EQ(process_identity().rank, mpi.rank());
  EXPECT_EQ(process_identity().world, mpi.world());
  EXPECT_EQ(launched_in_parallel(), mpi.world() > 1);
}

TEST(Environment, GroupsOfAMeshHoldItsMembers) {
  auto& mpi = test::mpi();
  const int64_t tp = mpi.world() % 2 == 0 ? 2 : 1;
  const Mesh mesh(mpi.world(), mpi.world() / tp, 1, tp);
  for (const Axis axis : {Axis::dp, Axis::cp, Axis::tp}) {
    const auto group = mpi.make_group(mesh.group(axis, mpi.rank()));
    const auto members = mesh.members(axis, mpi.rank());
    ASSERT_EQ(group->size(), static_cast<int64_t>(members.size()));
    EXPECT_EQ(members[group->rank()], mpi.rank());
    std::vector<int64_t> gathered(members.size());
    const int64_t mine = mpi.rank();
    group->all_gather(&mine, gathered.data(), 1, DType::i64)->wait();
    EXPECT_EQ(gathered, members);
  }
}

}  // namespace
}  // namespace dm::dist
