// The option surface of the program is pinned: growing it is a decision, seen in the diff of options.txt.

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

TEST(OptionsTest, AreTheOnesListed) {
  const std::string golden = std::string(DM_SOURCE_ROOT) + "/tests/hygiene/options.txt";
  const Outcome outcome = run({diffmamba(), "options"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string expected = read_text(golden);
  if (outcome.out == expected) return;

  std::string difference;
  const std::set<std::string> before = lines(expected), now = lines(outcome.out);
  for (const std::string& line : before)
    if (now.count(line) == 0) difference += "- " + line + "\n";
  for (const std::string& line : now)
    if (before.count(line) == 0) difference += "+ " + line + "\n";
  ADD_FAILURE() << "The options (COMMAND SECTION.NAME TYPE DEFAULT) changed:\n"
                << (difference.empty() ? "only their order\n" : difference) << "If that is meant:\n  "
                << diffmamba() << " options > " << golden;
}

}  // namespace
}  // namespace dm::test
