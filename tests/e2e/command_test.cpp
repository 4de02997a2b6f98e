// What a user does with a run, end to end: prepare, train, evaluate, generate, inspect, verify.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Json = nlohmann::json;

class Commands : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    prepare_sample(folder_->path());
    const Outcome trained =
        run(on_ranks(2, train_words(folder_->path(), "run", 40,
                                    {"--eval-data", path("data/heldout"), "--eval-every", "20"})));
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    log_ = trained.err + trained.out;
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string path(const std::string& name) { return *folder_ / name; }

  static Outcome call(std::vector<std::string> words) {
    words.insert(words.begin(), diffmamba());
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome;
  }

  static TemporaryFolder* folder_;
  static std::string log_;
};
TemporaryFolder* Commands::folder_ = nullptr;
std::string Commands::log_;

TEST_F(Commands, TrainingReportsProgressAndMetrics) {
  for (const char* word : {"loss", "lr", "tokens/s", "ETA"}) EXPECT_THAT(log_, HasSubstr(word));
  std::istringstream lines(read_text(path("run/metrics.jsonl")));
  std::string line;
  int64_t last_step = 0, differences = 0;
  double first_loss = 0, last_loss = 0;
  while (std::getline(lines, line)) {
    const Json entry = Json::parse(line);
    if (entry.contains("loss")) {
      last_step = entry["step"];
      last_loss = entry["loss"];
      if (first_loss == 0) first_loss = last_loss;
    }
    if (line.find("cosine") != std::string::npos) ++differences;
  }
  EXPECT_EQ(last_step, 40);
  EXPECT_LT(last_loss, 0.75 * first_loss) << "forty steps on twenty words teach a model more than that";
  EXPECT_GE(differences, 4);
  EXPECT_TRUE(fs::exists(path("run/logs/rank-00001.log")));
}

TEST_F(Commands, StatusPrintsWhatTheTerminalShowedLast) {
  const size_t begin = log_.rfind("step 40/40  loss");
  ASSERT_NE(begin, std::string::npos);
  const std::string line = log_.substr(begin, log_.find('\n', begin) - begin);
  const std::string status = call({"status", path("run")}).out;
  EXPECT_THAT(status, HasSubstr(line));
  EXPECT_THAT(status, HasSubstr(": done\n"));
  EXPECT_THAT(status, HasSubstr("held-out after step 40"));
  const Json json = Json::parse(call({"status", path("run"), "--json"}).out);
  EXPECT_EQ(json["state"], "done");
  EXPECT_EQ(json["last"]["step"], 40);
  EXPECT_EQ(run({diffmamba(), "status", path("data")}).exit_code, 65);
}

TEST_F(Commands, ReportTakesSeveralRuns) {
  ASSERT_EQ(run(train_words(folder_->path(), "other", 10)).exit_code, 0);
  call({"report", path("run"), path("other"), "--output", path("report.html")});
  const std::string page = read_text(path("report.html"));
  for (const char* part : {"<!DOCTYPE html>", "train.steps", "\"name\":\"other\""})
    EXPECT_THAT(page, HasSubstr(part));
  EXPECT_EQ(run({diffmamba(), "report", path("run"), path("data"), "--output", path("x.html")}).exit_code,
            65);
  EXPECT_FALSE(fs::exists(path("x.html")));
}

TEST_F(Commands, TasksDoNotDependOnRanks) {
  write_text(path("tasks.jsonl"),
             "{\"task\": \"c\", \"context\": \"the model\", \"choices\": [\" reads\", \" slowly under\"], "
             "\"answer\": 0}\n"
             "{\"task\": \"t\", \"context\": \"a long story of\", \"target\": \" rivers\"}\n");
  std::vector<Json> results;
  for (const int ranks : {1, 3}) {
    const Outcome outcome =
        run(on_ranks(ranks, {diffmamba(), "eval", "--checkpoint", path("run"), "--tasks", path("tasks.jsonl"),
                             "--items", "--json", path("tasks.json")}));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    results.push_back(Json::parse(read_text(path("tasks.json"))));
  }
  for (const char* task : {"c", "t"})
    EXPECT_EQ(results[0]["tasks"][task]["acc"], results[1]["tasks"][task]["acc"]);
  for (size_t i = 0; i < 2; ++i)  // float32, in batches of other sizes
    EXPECT_NEAR(results[0]["log_likelihoods"][i][0].get<double>(),
                results[1]["log_likelihoods"][i][0].get<double>(), 1e-4);
}

TEST_F(Commands, SameCommandAgainFindsTheRunComplete) {
  const Outcome outcome =
      run(on_ranks(2, train_words(folder_->path(), "run", 40,
                                  {"--eval-data", path("data/heldout"), "--eval-every", "20"})));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("complete"));
}

TEST_F(Commands, EvaluationDoesNotDependOnRanks) {
  const std::vector<std::string> words = {diffmamba(), "eval",           "--checkpoint",
                                          path("run"), "--data",         path("data/heldout"),
                                          "--json",    path("eval.json")};
  double loss[2];
  for (const int ranks : {1, 3}) {
    const Outcome outcome = run(on_ranks(ranks, words));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const Json result = Json::parse(read_text(path("eval.json")));
    loss[ranks == 1 ? 0 : 1] = result["nats_per_token"];
    EXPECT_GT(result["bits_per_byte"].get<double>(), 0.0);
    EXPECT_LT(result["bits_per_byte"].get<double>(), 8.0);
  }
  // The same rows in batches of other sizes: float32 rounding of sums over some thousand targets.
  EXPECT_NEAR(loss[0], loss[1], 1e-5);
}

TEST_F(Commands, GenerationRepeatsAndIgnoresItsCompanions) {
  const std::vector<std::string> one = {"generate",     "--checkpoint", path("run"), "--prompt", "the model",
                                        "--max-tokens", "40",           "--seed",    "3"};
  const Outcome first = call(one), again = call(one);
  EXPECT_EQ(first.out, again.out);
  EXPECT_THAT(first.out, testing::StartsWith("the model"));
  write_text(path("prompts.txt"), "the model\nrivers\n");
  const Outcome both = call({"generate", "--checkpoint", path("run"), "--prompts", path("prompts.txt"),
                             "--max-tokens", "40", "--seed", "3"});
  EXPECT_THAT(both.out, HasSubstr(first.out));
}

// 257 ids of the tokenizer in a vocabulary of 1,000, and a temperature at which all are equally likely:
// without a bound, three of four draws would be of ids that stand for nothing.
TEST_F(Commands, GenerationDrawsNoIdsBeyondTheTokenizer) {
  const Outcome trained =
      run(train_words(folder_->path(), "padded", 1, {"--vocab-size", "1000", "--warmup", "0"}));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const Json line = Json::parse(call({"generate", "--checkpoint", path("padded"), "--prompt", "a", "--json",
                                      "--temperature", "1000", "--max-tokens", "50", "--seed", "3"})
                                    .out);
  EXPECT_GE(line["tokens"].get<int64_t>(), 1);
}

TEST_F(Commands, InspectKnowsDatasetsRunsAndConfigs) {
  EXPECT_THAT(call({"inspect", path("data/train")}).out, HasSubstr("token_count"));
  EXPECT_THAT(call({"inspect", path("run")}).out, HasSubstr("step 40"));
  EXPECT_THAT(call({"inspect", "--preset", "diffmamba2-370m"}).out, HasSubstr("48 layers"));
  const Json json = Json::parse(call({"inspect", "--preset", "diffmamba2-tiny", "--json", "true"}).out);
  EXPECT_GT(json["parameters"].get<int64_t>(), 100000);
}

TEST_F(Commands, InspectTextGivesBackTheText) {
  const std::string text = call({"inspect", path("data/train"), "--text"}).out +
                           call({"inspect", path("data/heldout"), "--text"}).out;
  // Every document is in exactly one of the two; together they are as long as the input without its blank
  // lines.
  EXPECT_GT(text.size(), read_text(path("text.txt")).size() * 95 / 100);
}

TEST_F(Commands, VerifyFindsEverythingSound) {
  for (const char* what : {"data/train", "data/heldout", "run"})
    EXPECT_THAT(call({"verify", path(what)}).out, HasSubstr("sound"));
}

TEST_F(Commands, PrintedConfigTrainsTheSameModel) {
  const std::vector<std::string> words = train_words(folder_->path(), "again", 10);
  std::vector<std::string> print = words;
  print.push_back("--print-config");
  const Outcome printed = run(print);
  ASSERT_EQ(printed.exit_code, 0) << printed.err;
  write_text(path("printed.ini"), printed.out);
  ASSERT_EQ(run(words).exit_code, 0);
  const Outcome second = run({diffmamba(), "train", "--config", path("printed.ini"), "--override",
                              "run_dir=" + path("third"), "--ledger", path("third.ledger")});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(read_text(path("third.ledger")), read_text(path("again.ledger")));
}

TEST_F(Commands, StandardInputAndGzipGiveTheSameShards) {
  const std::string text = read_text(path("text.txt"));
  const std::vector<std::string> more = {"--documents", "blank-line"};
  const Outcome piped =
      run({diffmamba(), "prepare", "--input", "-", "--output", path("piped"), "--documents", "blank-line"},
          {}, text);
  ASSERT_EQ(piped.exit_code, 0) << piped.err;
  ASSERT_EQ(run({"gzip", "-k", path("text.txt")}).exit_code, 0);
  call({"prepare", "--input", path("text.txt.gz"), "--output", path("zipped"), "--documents", "blank-line"});
  for (const auto& entry : fs::directory_iterator(path("piped/train")))
    EXPECT_EQ(read_text(entry.path()), read_text(path("zipped/train/" + entry.path().filename().string())))
        << entry.path();
}

}  // namespace
}  // namespace dm::test
