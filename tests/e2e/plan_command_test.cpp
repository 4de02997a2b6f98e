// `diffmamba plan` as a user meets it: no launcher, no GPU.

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/process.h"

namespace dm::test {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

Outcome plan(std::vector<std::string> words) {
  words.insert(words.begin(), {diffmamba(), "plan", "--preset", "diffmamba2-370m", "--length", "2048"});
  return run(words);
}

TEST(PlanCommand, TablesSayWhatIsAssumed) {
  const Outcome outcome = plan({"--gpus", "8,64", "--tokens-per-gpu", "32768"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* text : {"--dp 8 ", "--dp 64 ", "efficiency", "weights", "moments", "reduce-scatter",
                           "all-gather", "Assumed: NVIDIA H100"})
    EXPECT_THAT(outcome.out, HasSubstr(text));
}

TEST(PlanCommand, JsonOfALayoutAsGiven) {
  const Outcome outcome = plan({"--gpus", "16", "--as-given", "true", "--tp", "2", "--cp", "2",
                                "--global-batch", "16", "--micro-batch", "2", "--json", "true"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  ASSERT_EQ(json["plans"].size(), 1u);
  const Json& one = json["plans"][0];
  EXPECT_EQ(one["layout"], (Json{{"dp", 4}, {"cp", 2}, {"tp", 2}, {"dp_shard", 8}}));
  for (const char* axis : {"data", "context", "tensor", "control"})
    EXPECT_FALSE(one["traffic"][axis].empty()) << axis;
  EXPECT_GT(one["step_seconds"], 0);
  EXPECT_EQ(json["cluster"]["gpus_per_node"], 8);
}

TEST(PlanCommand, SnapshotsAndCarriedRowsAreShownWhereThereAreSuch) {
  const std::vector<std::string> layout = {"--gpus", "16", "--as-given", "true", "--micro-batch", "2"};
  auto with = layout;
  with.insert(with.end(), {"--memory-snapshot-every", "10", "--order", "streams"});
  EXPECT_THAT(plan(layout).out, AllOf(Not(HasSubstr("snapshots")), Not(HasSubstr("carried rows"))));
  EXPECT_THAT(plan(with).out, AllOf(HasSubstr("snapshots"), HasSubstr("carried rows")));
  with.insert(with.end(), {"--json", "true"});
  const Json json = Json::parse(plan(with).out);
  EXPECT_GT(json["plans"][0]["snapshot_bytes_a_node"], 12 * json["parameters"].get<double>());
}

TEST(PlanCommand, AClusterIsEditedAsAFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "mine.ini";
  const Outcome printed = plan({"--print-cluster", "true"});
  ASSERT_EQ(printed.exit_code, 0) << printed.err;
  std::ofstream(path) << printed.out;
  const Outcome same = plan({"--cluster", path}), none = plan({});
  EXPECT_EQ(same.out, none.out) << same.err;
  std::ofstream(path) << "[cluster]\nlink_gbs = 50\n";
  EXPECT_THAT(plan({"--cluster", path}).out, HasSubstr("50 GB/s a GPU inside a node"));
  std::ofstream(path) << "[cluster]\nlink_gbps = 50\n";
  const Outcome refused = plan({"--cluster", path});
  EXPECT_EQ(refused.exit_code, 64);
  EXPECT_THAT(refused.err, HasSubstr("mine.ini:2"));
}

TEST(PlanCommand, FailuresAreSimulatedForEachWayToGoOn) {
  const Outcome table = plan({"--gpus", "8", "--failures", "true", "--failure-runs", "20"});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  for (const char* text :
       {"Failures of 8 GPUs: one in 1011.2 h (7.9 h x 1024 / 8)", "Young", "Daly",
        "the scheduler starts it again", "supervise, from files", "supervise, from memory"})
    EXPECT_THAT(table.out, HasSubstr(text));
  const Outcome outcome =
      plan({"--gpus", "8,64", "--failures", "true", "--failure-runs", "20", "--json", "true"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  ASSERT_EQ(json["goodput"].size(), 2u);
  EXPECT_EQ(json["failures"]["mttf_gpus"], 1024);
  for (const Json& way : json["goodput"][1]["ways"]) {
    EXPECT_GT(way["goodput"], 0.9) << way;
    EXPECT_LT(way["goodput"], 1.0) << way;
  }
  const TemporaryFolder folder;
  const std::string never = folder / "never.ini";
  std::ofstream(never) << "[failures]\nmttf_hours = 0\n";
  const Outcome refused = plan({"--cluster", never, "--failures", "true"});
  EXPECT_EQ(refused.exit_code, 64);
  EXPECT_THAT(refused.err, HasSubstr("never.ini:2"));
  EXPECT_EQ(plan({"--failures", "true", "--failure-runs", "0"}).exit_code, 64);
}

TEST(PlanCommand, RefusesWhatTrainingWould) {
  const Outcome tp = plan({"--gpus", "8", "--as-given", "true", "--tp", "3"});
  EXPECT_EQ(tp.exit_code, 64);
  EXPECT_THAT(tp.err, HasSubstr("--tp 3"));
  const TemporaryFolder folder;
  const std::string small = folder / "small.ini";
  std::ofstream(small) << "[cluster]\nmemory_gib = 1\n";
  const Outcome rows = plan({"--gpus", "8", "--global-batch", "1", "--cluster", small});
  EXPECT_EQ(rows.exit_code, 64);
  EXPECT_THAT(rows.err, HasSubstr("no layout of 8 GPUs"));
  const Outcome gpus = plan({"--gpus", "8,many"});
  EXPECT_EQ(gpus.exit_code, 64);
  EXPECT_THAT(gpus.err, HasSubstr("many"));
}

}  // namespace
}  // namespace dm::test
