// `cmake --install` gives a tree that works where it is moved to: the program, its recipes and documents, and
// libraries that another project finds and links.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/process.h"

namespace dm::test {
namespace {

namespace fs = std::filesystem;

class InstallTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    home_ = new TemporaryFolder;
    const Outcome outcome = run({DM_CMAKE, "--install", DM_BUILD_ROOT, "--prefix", *home_ / "first"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    fs::rename(*home_ / "first", *home_ / "moved");
  }
  static void TearDownTestSuite() { delete home_; }

  static std::string installed(const std::string& name) { return *home_ / "moved/" + name; }

  /// Away from the sources; it must end with 0.
  std::string output_of(const std::vector<std::string>& command, const std::string& input = "") const {
    const Outcome outcome = Process(command, {}, input, elsewhere_.path()).wait(std::chrono::seconds(300));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
    return outcome.out;
  }
  std::string output(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), installed("bin/diffmamba"));
    return output_of(arguments, input);
  }

  static TemporaryFolder* home_;
  TemporaryFolder elsewhere_;
};
TemporaryFolder* InstallTest::home_ = nullptr;

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
  for (const auto& entry : fs::recursive_directory_iterator(installed("share/diffmamba/recipes"))) {
    if (entry.path().extension() != ".ini") continue;
    const std::string path = entry.path().string();
    const bool cluster = entry.path().parent_path().filename() == "clusters";
    EXPECT_NE(output(cluster ? std::vector<std::string>{"plan", "--cluster", path, "--print-cluster", "true"}
                             : std::vector<std::string>{"train", "--config", path, "--print-config"}),
              "");
    ++recipes;
  }
  EXPECT_GT(recipes, 0);
  for (const char* name : {"doc/diffmamba/README.md", "doc/diffmamba/LICENSE", "doc/diffmamba/docs/cli.md",
                           "man/man1/diffmamba.1", "bash-completion/completions/diffmamba",
                           "zsh/site-functions/_diffmamba", "diffmamba/slurm/one_node.sbatch"})
    EXPECT_TRUE(fs::exists(installed("share/" + std::string(name)))) << name;
}

TEST_F(InstallTest, AnotherProjectLinksTheLibraries) {
  output({"prepare", "--input", "-", "--output", "data"}, "One document.\n");
  output_of({DM_CMAKE, "-G", "Ninja", "-S", DM_SOURCE_ROOT "/tests/install/consumer", "-B", "build", "-D",
             "CMAKE_PREFIX_PATH=" + installed("")});
  output_of({DM_CMAKE, "--build", "build"});
  const std::string said = output_of({elsewhere_ / "build/consumer", "diffmamba2-tiny", "data/train"});
  EXPECT_THAT(output({"inspect", "--preset", "diffmamba2-tiny", "--json"}),
              testing::HasSubstr("\n  \"parameters\": " + said.substr(0, said.find(' '))))
      << said;
  EXPECT_EQ(said.substr(said.find(' ')), " 15\n");  // 14 bytes and the end of the document
}

}  // namespace
}  // namespace dm::test
