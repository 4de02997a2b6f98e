// Every recipe, with every preset that it is for, is planned for eight GPUs, takes its two steps of a dry run
// and leaves nothing behind; and what launch/get_data says when it cannot fetch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kRecipes = DM_SOURCE_ROOT "/recipes/";

/// The dry run is made in an empty folder, which must stay empty.
void expect_it_runs(const std::string& recipe, const std::vector<std::string>& more, int ranks = 1) {
  std::vector<std::string> words = {diffmamba(), "train", "--config", kRecipes + recipe, "--dry-run"};
  words.insert(words.end(), more.begin(), more.end());
  const TemporaryFolder folder;
  const Outcome outcome = Process(ranks == 1 ? words : mpirun(ranks, words), {}, "", folder.path()).wait();
  const std::string what = recipe + " " + testing::PrintToString(more);
  EXPECT_EQ(outcome.exit_code, 0) << what << "\n" << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("dry run, step 2: loss ")) << what;
  EXPECT_TRUE(fs::is_empty(folder.path())) << what;

  words = {diffmamba(), "plan", "--config", kRecipes + recipe, "--gpus", "8"};
  words.insert(words.end(), more.begin(), more.end());
  const Outcome plan = run(words);
  EXPECT_EQ(plan.exit_code, 0) << what << "\n" << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("a GPU efficiency")) << what;
}

TEST(Recipes, EachIsTried) {
  const std::set<std::string> tried = {
      "demo.ini",         "paper/enwik8.ini", "paper/text8.ini",  "paper/wikitext103.ini",
      "scaling/1.3b.ini", "scaling/130m.ini", "scaling/2.7b.ini", "scaling/370m.ini",
      "scaling/6.9b.ini", "scaling/790m.ini"};
  std::set<std::string> there;
  for (const auto& entry : fs::recursive_directory_iterator(kRecipes)) {
    const std::string name = fs::relative(entry.path(), kRecipes).string();
    if (entry.path().extension() == ".ini" && !name.starts_with("clusters/")) there.insert(name);
  }
  EXPECT_EQ(there, tried) << "a new recipe belongs into a test below, and here";
}

TEST(Recipes, Demo) { expect_it_runs("demo.ini", {}); }

TEST(Recipes, PapersStudies) {
  for (const char* study : {"text8", "enwik8", "wikitext103"})
    for (const char* preset : {"diffmamba2-paper6", "mamba2-paper6", "diffmamba2-paper12", "mamba2-paper12"})
      expect_it_runs("paper/" + std::string(study) + ".ini", {"--preset", preset});
}

TEST(Recipes, ScalingFamilies) {
  for (const std::string size : {"130m", "370m", "790m", "1.3b", "2.7b", "6.9b"})
    for (const std::string family : {"diffmamba2-", "mamba2-", "diffmamba1-", "mamba1-"})
      expect_it_runs("scaling/" + size + ".ini", {"--preset", family + size});
}

TEST(Recipes, OnLayouts) {
  expect_it_runs("scaling/130m.ini", {}, 3);
  expect_it_runs("scaling/1.3b.ini", {"--tp", "2", "--cp", "2"}, 4);
  expect_it_runs("paper/wikitext103.ini", {"--tp", "2"}, 4);
}

TEST(Recipes, ADryRunStillRefusesWhatCannotBe) {
  const Outcome outcome =
      run({diffmamba(), "train", "--config", kRecipes + "demo.ini", "--dry-run", "--head-dim", "7"});
  EXPECT_EQ(outcome.exit_code, 64);
  EXPECT_THAT(outcome.err, HasSubstr("--head-dim 7"));
}

class GetData : public testing::Test {
 protected:
  Outcome get(const std::string& name) const {
    // A proxy where nobody listens: there is no network.
    return run({DM_SOURCE_ROOT "/launch/get_data", name, folder_ / "data"},
               {{"http_proxy", "http://127.0.0.1:9"}, {"https_proxy", "http://127.0.0.1:9"}});
  }
  TemporaryFolder folder_;
};

TEST_F(GetData, SaysWhatToBringWithoutANetwork) {
  for (const std::string name : {"text8", "enwik8", "wikitext-103"}) {
    const Outcome outcome = get(name);
    EXPECT_EQ(outcome.exit_code, 74) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("bring it to " + (folder_ / "data/archives/") + name + ".zip"));
    EXPECT_THAT(outcome.err, HasSubstr("SHA-256"));
  }
  EXPECT_TRUE(fs::is_empty(folder_ / "data/archives"));
}

TEST_F(GetData, RefusesADamagedArchive) {
  fs::create_directories(folder_ / "data/archives");
  write_text(folder_ / "data/archives/text8.zip", "not text8");
  const Outcome outcome = get("text8");
  EXPECT_EQ(outcome.exit_code, 65);
  EXPECT_THAT(outcome.err, HasSubstr("archives/text8.zip: SHA-256 "));
}

TEST_F(GetData, NamesWhatThereIs) {
  const Outcome outcome = get("text9");
  EXPECT_EQ(outcome.exit_code, 64);
  EXPECT_THAT(outcome.err, HasSubstr("text8 enwik8 wikitext-103"));
}

}  // namespace
}  // namespace dm::test
