// Training on ranks that do not fit together, and what several ranks leave behind, as a user meets it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::json;

class Ranks : public testing::Test {
 protected:
  void SetUp() override { prepare_sample(folder_.path()); }

  std::vector<std::string> words(const std::string& name, const std::vector<std::string>& more = {}) const {
    return train_words(folder_.path(), name, 8, more);
  }
  /// `mpirun`: two ranks of `first`, then one of `second`.
  static Outcome two_and_one(std::vector<std::string> first, const std::vector<std::string>& second) {
    std::vector<std::string> all = mpirun(2, std::move(first));
    all.insert(all.end(), {":", "-n", "1"});
    all.insert(all.end(), second.begin(), second.end());
    return run(all);
  }
  void expect_refused(const Outcome& outcome, int code, const testing::Matcher<const std::string&>& message) {
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_FALSE(outcome.timed_out);
    EXPECT_THAT(outcome.err + outcome.out, message);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "run")) << "refused after the run's folder was made";
  }
  TemporaryFolder folder_;
};

TEST_F(Ranks, OtherOptionsOnOneRankAreNamed) {
  expect_refused(two_and_one(words("run"), words("run", {"--lr", "2e-2"})), 64,
                 AllOf(HasSubstr("differ in their options"), HasSubstr("rank 2 ("),
                       HasSubstr("'lr = 0.02' in place of 'lr = 0.01'")));
}

TEST_F(Ranks, AnotherProgramOnOneRankIsNamed) {
  std::filesystem::copy_file(diffmamba(), folder_ / "other");
  write_text(folder_ / "other", read_text(diffmamba()) + "\n");  // a byte behind its end changes no behaviour
  std::vector<std::string> other = words("run");
  other[0] = folder_ / "other";
  expect_refused(two_and_one(words("run"), other), 64,
                 AllOf(HasSubstr("differ in their program"), HasSubstr("rank 2 (")));
}

TEST_F(Ranks, OtherDataOnOneRankIsNamed) {
  // The same path on every host, as a mount that differs would have it: a folder per rank behind one link
  // name.
  const std::string a = folder_ / "a", b = folder_ / "b";
  for (const std::string& host : {a, b}) std::filesystem::create_directory(host);
  std::filesystem::create_symlink(folder_ / "data/train", a + "/set");
  std::filesystem::create_symlink(folder_ / "data/heldout", b + "/set");
  const auto in = [&](const std::string& host) {
    std::vector<std::string> all = words("run", {"--data", "set"});
    all.insert(all.begin(), {"env", "-C", host});
    return all;
  };
  expect_refused(two_and_one(in(a), in(b)), 65,
                 AllOf(HasSubstr("differ in their data"), HasSubstr("rank 2 (")));
}

TEST_F(Ranks, LayoutsThatDoNotFitAreRefusedWithTheLegalValues) {
  expect_refused(run(mpirun(3, words("run", {"--dp", "2"}))), 64, HasSubstr("dp is 3"));
  expect_refused(run(mpirun(3, words("run", {"--tp", "2"}))), 64, HasSubstr("legal: 1, 3"));
  expect_refused(run(mpirun(3, words("run", {"--dp-shard", "2"}))), 64, HasSubstr("legal: 0, 1, 3"));
  expect_refused(run(mpirun(2, words("run", {"--comm", "nccl"}))), 64, HasSubstr("--device cuda"));
  expect_refused(run(mpirun(3, words("run", {"--global-batch", "2"}))), 64,
                 HasSubstr("--global-batch 3 or more"));
}

TEST_F(Ranks, TheMappingIsPrinted) {
  const Outcome outcome = run(mpirun(2, words("run")));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err + outcome.out,
              AllOf(HasSubstr("2 ranks: dp 2 x cp 1 x tp 1"), HasSubstr("rank 1 on ")));
}

/// Weights and moments cut over pairs and copied between them train the same model, and save it once.
TEST_F(Ranks, ShardsWithinGroupsTrainTheSameModel) {
  ASSERT_EQ(run(mpirun(4, words("all"))).exit_code, 0);
  const Outcome outcome = run(mpirun(4, words("run", {"--dp-shard", "2"})));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  ASSERT_EQ(run({diffmamba(), "verify", folder_ / "run"}).exit_code, 0);
  const auto losses = [&](const std::string& name) {
    std::vector<double> values;
    std::istringstream lines(read_text(folder_ / (name + "/metrics.jsonl")));
    for (std::string line; std::getline(lines, line);)
      if (const Json json = Json::parse(line); json.contains("loss")) values.push_back(json["loss"]);
    return values;
  };
  const std::vector<double> expected = losses("all"), found = losses("run");
  ASSERT_EQ(found.size(), 8u);
  ASSERT_EQ(expected.size(), 8u);
  // Four gradients added as (a + b) + (c + d) in float32: eight steps leave 1e-5 of that.
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(found[i], expected[i], 1e-5 * expected[i]) << i;
}

TEST_F(Ranks, ATraceShowsExchangesBesideThePass) {
  const std::string trace = folder_ / "trace.json";
  const Outcome outcome = run(mpirun(2, words("run", {"--trace", trace, "--trace-steps", "3", "--bucket-mib",
                                                      "1e-6", "--micro-batch", "8"})));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(read_text(trace));
  const auto begin = [](const Json& event) { return event.at("ts").get<double>(); };
  const auto end = [&](const Json& event) { return begin(event) + event.at("dur").get<double>(); };
  std::set<int> ranks, steps;
  int sums_before_the_end = 0, weights_after_the_begin = 0;
  for (const Json& event : json.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    ranks.insert(event.at("pid").get<int>());
    steps.insert(event.at("args").at("step").get<int>());
    EXPECT_GE(event.at("dur").get<double>(), 0);
    const auto name = event.at("name").get<std::string>();
    for (const Json& pass : json.at("traceEvents")) {
      if (pass.at("name") != "last forward and backward" || pass.at("pid") != event.at("pid") ||
          pass.at("args").at("step") != event.at("args").at("step"))
        continue;
      sums_before_the_end += name.starts_with("reduce-scatter") && begin(event) < end(pass);
      weights_after_the_begin +=
          name.starts_with("all-gather") && end(event) > begin(pass) && end(event) < end(pass);
    }
  }
  EXPECT_GT(sums_before_the_end, 0);
  EXPECT_GT(weights_after_the_begin, 0);
  EXPECT_EQ(ranks, (std::set<int>{0, 1}));
  EXPECT_EQ(steps, (std::set<int>{4, 5, 6}));
  const std::string metrics = read_text(folder_ / "run/metrics.jsonl");
  EXPECT_THAT(metrics, HasSubstr("exposed_communication_ms"));
  EXPECT_THAT(metrics, HasSubstr("\"sent_bytes\":{\"data\":"));
}

}  // namespace
}  // namespace dm::test
