// Ranks that are not alike refuse together, and say who differs in what.

#include "dist/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/mpi_environment.h"

namespace dm::dist {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// What this rank is told: the message and code of the refusal, "" without one.
std::pair<std::string, ExitCode> refusal(Collectives& group, const std::vector<Fact>& facts) {
  try {
    require_agreement(group, facts);
    return {"", ExitCode::ok};
  } catch (const Error& error) {
    return {error.what(), error.code()};
  }
}

TEST(Agreement, RanksThatAreAlikeAgree) {
  const auto group = test::mpi().make_world_group();
  EXPECT_EQ(refusal(*group, {{"program", "abc"}, {"empty", ""}, {"text", "a\nb\n"}}).first, "");
  EXPECT_EQ(refusal(*group, {}).first, "");
}

TEST(Agreement, EveryRankNamesTheCulpritAndEndsAlike) {
  const auto group = test::mpi().make_world_group();
  if (group->size() < 3) GTEST_SKIP() << "a majority needs three ranks";
  for (int64_t culprit = 0; culprit < group->size(); ++culprit) {
    const bool differs = group->rank() == culprit;
    const auto [message, code] =
        refusal(*group, {{"data", "the same", ExitCode::bad_data, "copy it"},
                         {"options", differs ? "[model]\nlr = 1\nlayers = 3" : "[model]\nlr = 2\nlayers = 3",
                          ExitCode::usage, "give the same"}});
    EXPECT_EQ(code, ExitCode::usage);
    EXPECT_THAT(message,
                AllOf(HasSubstr("differ in their options"), HasSubstr(fmt::format("rank {} (", culprit)),
                      HasSubstr("'lr = 1' in place of 'lr = 2'"), HasSubstr("give the same"),
                      Not(HasSubstr("layers"))));
    const std::vector<std::string> told = group->gather_text(message);
    for (const std::string& other : told) EXPECT_EQ(other, told[0]);
  }
}

TEST(Agreement, TheFirstFactThatDiffersIsTold) {
  const auto group = test::mpi().make_world_group();
  if (group->size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  const std::string mine = std::to_string(group->rank());
  const auto [message, code] =
      refusal(*group, {{"CPU", "one"}, {"data", mine, ExitCode::bad_data, "copy"}, {"NCCL", mine}});
  EXPECT_EQ(code, ExitCode::bad_data);
  // All differ from each other: the lowest rank's value is taken for the right one.
  EXPECT_THAT(message,
              AllOf(HasSubstr("in their data"), HasSubstr("rank 1 ("), HasSubstr("'1' in place of '0'"),
                    Not(HasSubstr("rank 0 (")), Not(HasSubstr("NCCL"))));
}

}  // namespace
}  // namespace dm::dist
