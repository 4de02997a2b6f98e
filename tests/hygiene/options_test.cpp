// The option surface of the program is pinned: growing it is a decision, seen in the diff of options.txt. So
// is the manual that is printed from it.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "tests/support/process.h"

namespace dm::test {
namespace {

std::set<std::string> lines(const std::string& text) {
  std::set<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.insert(line);
  return result;
}

/// `word` prints what the repository's `file` holds; if not, says the differing lines and how to renew it.
void expect_printed(const std::string& word, const std::string& file) {
  const std::string path = std::string(DM_SOURCE_ROOT) + "/" + file;
  const Outcome outcome = run({diffmamba(), word});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string expected = read_text(path);
  if (outcome.out == expected) return;

  std::string difference;
  const std::set<std::string> before = lines(expected), now = lines(outcome.out);
  for (const std::string& line : before)
    if (now.count(line) == 0) difference += "- " + line + "\n";
  for (const std::string& line : now)
    if (before.count(line) == 0) difference += "+ " + line + "\n";
  ADD_FAILURE() << "The options changed, and " << file << " is not what the program prints:\n"
                << (difference.empty() ? "only their order\n" : difference) << "If that is meant:\n  "
                << diffmamba() << " " << word << " > " << path;
}

TEST(OptionsTest, AreTheOnesListed) { expect_printed("options", "tests/hygiene/options.txt"); }
TEST(OptionsTest, AreTheOnesOfTheManual) { expect_printed("docs", "docs/cli.md"); }

}  // namespace
}  // namespace dm::test
