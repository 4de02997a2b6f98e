// The corpus of launch/test --nightly fuzz, what once crashed a reader included, through the same readers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/fuzz/targets.h"
#include "tests/support/process.h"

namespace dm::test {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> corpus(const std::string& target) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(DM_FUZZ_CORPUS) / target)) files.push_back(entry);
  std::sort(files.begin(), files.end());
  return files;
}

class FuzzCorpus : public testing::TestWithParam<FuzzTarget> {};

TEST_P(FuzzCorpus, IsReadOrRefused) {
  const std::vector<fs::path> files = corpus(GetParam().name);
  int sound = 0;
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.filename());
    const std::string refusal = GetParam().refusal(read_text(file));
    // By name: what is sound must be read, what was found or made to be refused may not crash.
    const bool must_be_read = file.filename().string().starts_with("sound-");
    if (must_be_read) EXPECT_EQ(refusal, "");
    sound += must_be_read;
  }
  EXPECT_GT(sound, 0) << "nothing in the corpus reaches the end of its reader";
  RecordProperty("trials", static_cast<int>(files.size()));
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzCorpus, testing::ValuesIn(fuzz_targets()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(FuzzCorpusFolders, EachBelongsToATarget) {
  for (const auto& entry : fs::directory_iterator(DM_FUZZ_CORPUS))
    EXPECT_NE(find_fuzz_target(entry.path().filename()), nullptr) << entry.path();
}

}  // namespace
}  // namespace dm::test
