// What the program prints of itself: completion as bash itself does it, and a manual page without a flaw of
// roff.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "tests/support/process.h"

namespace dm::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;
using testing::UnorderedElementsAreArray;

std::string printed(const std::string& word) {
  const Outcome outcome = run({diffmamba(), word});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return outcome.out;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class BashCompletion : public testing::Test {
 protected:
  void SetUp() override { write_text(folder_ / "completion", printed("bash-completion")); }

  /// What bash offers for the last of the words.
  std::vector<std::string> offered(const std::vector<std::string>& words) const {
    std::string script = fmt::format("set -u; source {}; COMP_WORDS=(", folder_ / "completion");
    for (const std::string& word : words) script += "'" + word + "' ";
    script +=
        fmt::format("); COMP_CWORD={}; _diffmamba; printf '%s\\n' \"${{COMPREPLY[@]}}\"", words.size() - 1);
    const Outcome outcome = Process({"bash", "-c", script}, {}, "", folder_.path()).wait();
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return split(outcome.out);
  }

  TemporaryFolder folder_;
};

TEST_F(BashCompletion, OffersEveryOptionOfEveryCommand) {
  std::map<std::string, std::vector<std::string>> options;
  for (const std::string& line : split(printed("options"))) {  // "train optimizer.lr number 0.001"
    const size_t blank = line.find(' '), dot = line.find('.'), end = line.find(' ', dot);
    std::string name = "--" + line.substr(dot + 1, end - dot - 1);
    for (char& c : name)
      if (c == '_') c = '-';
    options[line.substr(0, blank)].push_back(name);
  }
  ASSERT_GE(options.size(), 10u);
  const std::vector<std::string> commands = offered({"diffmamba", ""});
  for (auto& [command, names] : options) {
    EXPECT_THAT(commands, Contains(command));
    for (const char* common : {"--config", "--override", "--print-config", "--help"}) names.push_back(common);
    EXPECT_THAT(offered({"diffmamba", command, "--"}), UnorderedElementsAreArray(names)) << command;
  }
}

TEST_F(BashCompletion, KnowsWhatOptionsTake) {
  EXPECT_THAT(offered({"diffmamba", "train", "--mixer", ""}), ElementsAre("mamba2", "mamba1"));
  EXPECT_THAT(offered({"diffmamba", "train", "--block-norm", "po"}), ElementsAre("post"));
  EXPECT_THAT(offered({"diffmamba", "bench", "lo"}), ElementsAre("loader"));
  write_text(folder_ / "run.ini", "");
  EXPECT_THAT(offered({"diffmamba", "train", "--config", "run"}), ElementsAre("run.ini"));
  EXPECT_THAT(offered({"diffmamba", "verify", "run"}), ElementsAre("run.ini"));
  // A number is the user's to know; after a flag the next option may come.
  EXPECT_THAT(offered({"diffmamba", "train", "--lr", "run"}), ElementsAre(""));
  EXPECT_THAT(offered({"diffmamba", "train", "--tied", "--lr"}), ElementsAre("--lr"));
  EXPECT_THAT(offered({"diffmamba", "inspect", "--js"}), ElementsAre("--json"));
  EXPECT_THAT(offered({"diffmamba", "train", "--run-dir", "--"}), Not(Contains("--lr")));
}

TEST(ManualPage, BeginsRequestsOnlyOnPurpose) {
  for (const std::string& line : split(printed("man"))) {
    if (line.empty() || (line[0] != '.' && line[0] != '\'')) continue;
    EXPECT_THAT(line, testing::MatchesRegex("\\.(TH|SH|SS|TP|PP|B|BR)( .*)?")) << line;
  }
}

}  // namespace
}  // namespace dm::test
