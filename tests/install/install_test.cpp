// `cmake --install` into an empty prefix gives a program that works from anywhere, its recipes and its
// documents.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/process.h"

namespace dm::test {
namespace {

class InstallTest : public testing::Test {
 protected:
  void SetUp() override {
    const Outcome outcome = run({DM_CMAKE, "--install", DM_BUILD_ROOT, "--prefix", prefix_.path()});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }

  /// The installed program, run away from the sources; it must end with 0.
  std::string output(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), prefix_ / "bin/diffmamba");
    const Outcome outcome = Process(arguments, {}, input, elsewhere_.path()).wait();
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }

  TemporaryFolder prefix_, elsewhere_;
};

TEST_F(InstallTest, TheProgramFindsItsLibraries) {
  EXPECT_THAT(output({"--help"}), testing::HasSubstr("prepare"));
  EXPECT_NE(output({"inspect", "--preset", "diffmamba2-tiny"}), "");  // through LibTorch
}

TEST_F(InstallTest, TheProgramWorks) {
  output({"prepare", "--input", "-", "--output", "data"}, "One document.\n\nAnd another one.\n");
  output({"verify", "data"});
}

TEST_F(InstallTest, RecipesAndDocumentsCome) {
  int64_t recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(prefix_ / "share/diffmamba/recipes")) {
    EXPECT_NE(output({"train", "--config", entry.path().string(), "--print-config"}), "");
    ++recipes;
  }
  EXPECT_GT(recipes, 0);
  for (const char* name : {"README.md", "LICENSE", "CHANGELOG.md"})
    EXPECT_TRUE(std::filesystem::exists(prefix_ / ("share/doc/diffmamba/" + std::string(name)))) << name;
}

}  // namespace
}  // namespace dm::test
