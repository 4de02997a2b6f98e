// The checks, on this tree.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/hygiene/checks.h"

namespace dm::test {
namespace {

const SourceTree& tree() {
  static const SourceTree instance(DM_SOURCE_ROOT);
  return instance;
}

void expect_none(const Findings& findings) {
  EXPECT_TRUE(findings.empty()) << fmt::format("{}", fmt::join(findings, "\n"));
}

TEST(HygieneTest, TheWholeTreeIsSeen) {
  for (const std::string& folder : source_folders())
    EXPECT_TRUE(tree().contains(folder + "/CMakeLists.txt")) << folder;
  EXPECT_TRUE(tree().contains("tests/hygiene/tree_test.cpp"));
  EXPECT_TRUE(tree().contains("CMakeLists.txt"));
  EXPECT_GT(tree().code().size(), 100u);
}

TEST(HygieneTest, IncludesPointDownwards) { expect_none(include_direction(tree())); }
TEST(HygieneTest, ForeignHeadersStayWhereTheyBelong) { expect_none(foreign_headers(tree())); }
TEST(HygieneTest, NoFileIsTooLong) { expect_none(file_length(tree())); }
TEST(HygieneTest, HeadersBeginWithPragmaOnce) { expect_none(pragma_once(tree())); }
TEST(HygieneTest, SourcesBeginWithTheirHeader) { expect_none(own_header_first(tree())); }
TEST(HygieneTest, NothingIsUnfinished) { expect_none(unfinished_work(tree())); }
TEST(HygieneTest, OnlyLayersKnowLetters) { expect_none(layer_letters(tree())); }
TEST(HygieneTest, EverySourceIsBuilt) { expect_none(sources_left_out(tree())); }
TEST(HygieneTest, LinksLeadSomewhere) { expect_none(broken_links(tree())); }
TEST(HygieneTest, NothingIsIgnoredByGit) { expect_none(ignored_by_git(tree())); }
TEST(HygieneTest, EverythingIsFormatted) { expect_none(formatting(tree())); }

}  // namespace
}  // namespace dm::test
