// Who is blamed for a job that stands still.

#include "dist/watch_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dm::dist {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Four ranks that moved a moment ago, all in exchange 7.
std::vector<RankStatus> four() {
  std::vector<RankStatus> ranks;
  for (int64_t r = 0; r < 4; ++r)
    ranks.push_back({.rank = r,
                     .host = "node" + std::to_string(r / 2),
                     .pid = 100 + r,
                     .silent_seconds = 0.5,
                     .still_seconds = 0.5,
                     .step = 12,
                     .busy_seconds = 0.1,
                     .exchanges = 7,
                     .inside = true,
                     .exchange = "all-reduce"});
  return ranks;
}
std::vector<RankStatus> four_standing() {
  auto ranks = four();
  for (RankStatus& rank : ranks) rank.still_seconds = 31;
  return ranks;
}

TEST(WatchReport, AJobThatMovesIsLeftAlone) {
  EXPECT_FALSE(judge(four(), 30));
  auto ranks = four_standing();
  ranks[2].still_seconds = 3;
  EXPECT_FALSE(judge(ranks, 30));
  EXPECT_FALSE(judge({}, 30));
}

TEST(WatchReport, ASilentRankIsNamedWhateverTheOthersDo) {
  auto ranks = four();
  ranks[2].silent_seconds = 30;
  const auto verdict = judge(ranks, 30);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(verdict->culprits, ElementsAre(2));
  EXPECT_THAT(verdict->message,
              AllOf(HasSubstr("no sign of life for 30 s"), HasSubstr("rank 2 (process 102 on node1)"),
                    HasSubstr("last step 12"), HasSubstr("in exchange 7 (all-reduce)")));
}

TEST(WatchReport, WhoeverTheOthersWaitForIsNamed) {
  auto ranks = four_standing();
  ranks[1].inside = false, ranks[1].exchanges = 6, ranks[1].exchange = "reduce-scatter";
  const auto verdict = judge(ranks, 30);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(verdict->culprits, ElementsAre(1));
  EXPECT_THAT(verdict->message, HasSubstr("outside, after exchange 6 (reduce-scatter)"));
}

TEST(WatchReport, ARankInAnotherExchangeThanMostIsNamed) {
  auto ranks = four_standing();
  ranks[3].exchange = "barrier";
  auto verdict = judge(ranks, 30);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(verdict->culprits, ElementsAre(3));
  ranks[3].exchange = "all-reduce", ranks[3].exchanges = 9;
  verdict = judge(ranks, 30);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(verdict->culprits, ElementsAre(3));
}

TEST(WatchReport, WhoeverHasBegunFewerIsNamedWhereNoneWaitsOnTheHost) {
  auto ranks = four_standing();
  for (RankStatus& rank : ranks) rank.inside = false;
  ranks[2].exchanges = 5;
  const auto verdict = judge(ranks, 30);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(verdict->culprits, ElementsAre(2));
  EXPECT_THAT(verdict->message, HasSubstr("others have begun exchange 7 (all-reduce), but"));
}

TEST(WatchReport, WithoutACulpritAllAreShown) {
  auto ranks = four_standing();
  EXPECT_THAT(judge(ranks, 30)->message, HasSubstr("all ranks are in the same exchange"));
  EXPECT_THAT(judge(ranks, 30)->culprits, ElementsAre(0, 1, 2, 3));
  for (RankStatus& rank : ranks) rank.inside = false;
  EXPECT_THAT(judge(ranks, 30)->message, HasSubstr("no rank is in an exchange"));
}

TEST(WatchReport, StragglersAreThreeTimesAsBusyAsTheMedian) {
  auto ranks = four();
  EXPECT_THAT(stragglers(ranks), IsEmpty());
  ranks[1].busy_seconds = 0.31;
  EXPECT_THAT(stragglers(ranks), ElementsAre(1));
  ranks[0].step = 0;  // not all have done one
  EXPECT_THAT(stragglers(ranks), IsEmpty());
  EXPECT_THAT(stragglers({}), IsEmpty());
}

}  // namespace
}  // namespace dm::dist
