// What a user can get wrong, each case with the exit code and the words of the message.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

using Words = std::vector<std::string>;

/// Runs the program (or another, named by its path) and expects an exit code and a message on stderr.
void expect_refusal(const Words& words, int code, const testing::Matcher<const std::string&>& message) {
  Words whole = words;
  if (whole.at(0)[0] != '/') whole.insert(whole.begin(), diffmamba());
  const Outcome outcome = run(whole);
  EXPECT_EQ(outcome.exit_code, code) << outcome.err;
  EXPECT_THAT(outcome.err, message);
}

/// Flips one bit of the byte at `offset` (from the end when negative).
void flip(const std::string& path, int64_t offset) {
  std::string bytes = read_text(path);
  bytes[static_cast<size_t>(offset < 0 ? static_cast<int64_t>(bytes.size()) + offset : offset)] ^= 4;
  write_text(path, bytes);
}

std::string first_shard(const std::string& dataset) {
  for (const auto& entry : fs::directory_iterator(dataset))
    if (entry.path().extension() == ".h5") return entry.path();
  return "";
}

/// Prepared data and a finished run, made once for all the tests of this program.
class BadInput : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    prepare_sample(folder_->path());
    const Outcome trained = run(train_words(folder_->path(), "run", 10));
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string path(const std::string& name) { return *folder_ / name; }
  /// A copy of one of the folders above, to be damaged.
  static std::string copy(const std::string& name, const std::string& to) {
    fs::copy(path(name), path(to), fs::copy_options::recursive);
    return path(to);
  }
  static std::string newest_checkpoint(const std::string& run_folder) {
    std::string newest;
    for (const auto& entry : fs::directory_iterator(run_folder + "/checkpoints"))
      if (entry.path().filename().string().starts_with("step_"))
        newest = std::max(newest, entry.path().string());
    return newest;
  }
  static Words train_on(const std::string& name, const Words& more) {
    Words words = train_words(folder_->path(), name, 10, more);
    return {words.begin() + 1, words.end()};
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* BadInput::folder_ = nullptr;

// Options

TEST_F(BadInput, MisspeltOptionNamesTheNearest) {
  expect_refusal({"train", "--d-modle", "8"}, 64, AllOf(HasSubstr("d-modle"), HasSubstr("d_model")));
}
TEST_F(BadInput, MisspeltCommandNamesTheCommands) {
  expect_refusal({"trian"}, 64, AllOf(HasSubstr("trian"), HasSubstr("train")));
}
TEST_F(BadInput, HalfParsedNumber) {
  expect_refusal({"train", "--steps", "12x"}, 64, AllOf(HasSubstr("--steps"), HasSubstr("12x")));
}
TEST_F(BadInput, NumberOutOfRange) {
  expect_refusal({"train", "--beta1", "1.5"}, 64, AllOf(HasSubstr("--beta1"), HasSubstr("1.5")));
}
TEST_F(BadInput, OptionGivenTwice) {
  expect_refusal({"train", "--steps", "1", "--steps", "2"}, 64, HasSubstr("steps"));
}
TEST_F(BadInput, UnknownWordInChoice) {
  expect_refusal({"train", "--schedule", "cosin"}, 64, AllOf(HasSubstr("cosin"), HasSubstr("cosine")));
}
TEST_F(BadInput, UnknownPresetListsThem) {
  expect_refusal({"train", "--preset", "mamba3"}, 64,
                 AllOf(HasSubstr("mamba3"), HasSubstr("diffmamba2-tiny")));
}
TEST_F(BadInput, ConfigErrorNamesFileAndLine) {
  write_text(path("bad.ini"), "[train]\nsteps = 10\nstepz = 11\n");
  expect_refusal({"train", "--config", path("bad.ini")}, 64,
                 AllOf(HasSubstr("bad.ini:3"), HasSubstr("stepz"), HasSubstr("steps")));
}
TEST_F(BadInput, ConfigFileMissing) {
  expect_refusal({"train", "--config", path("none.ini")}, 74, HasSubstr("none.ini"));
}
TEST_F(BadInput, NoEndGiven) {
  expect_refusal({"train", "--run-dir", path("x"), "--data", path("data/train")}, 64,
                 AllOf(HasSubstr("--steps"), HasSubstr("--tokens")));
}
TEST_F(BadInput, IllegalCombinationNamesTheLegalSet) {
  expect_refusal(train_on("x", {"--mixer", "mamba1", "--lambda", "head"}), 64,
                 AllOf(HasSubstr("head"), HasSubstr("mamba1"), HasSubstr("token")));
}
TEST_F(BadInput, CommandWithoutRanksUnderMpirun) {
  expect_refusal(mpirun(2, {diffmamba(), "inspect", path("data/train")}), 64, HasSubstr("mpirun"));
}
TEST_F(BadInput, ErrorsOfAllRanksAreToldOnceAndEndInGoodOrder) {
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"train", "--stepz", "3"}, "unknown option '--stepz'"},           // before MPI starts
      {{"train", "--run-dir", path("x4")}, "--data is missing"},         // found by each rank
      {train_on("x4", {"--data", path("nowhere")}), "no such dataset"},  // likewise
      {train_on("run", {"--d-state", "8", "--steps", "20"}),
       "d_state: 16 -> 8"}};  // after the ranks have voted
  for (const auto& [words, message] : cases) {
    Words whole = {diffmamba()};
    whole.insert(whole.end(), words.begin(), words.end());
    const Outcome outcome = run(mpirun(3, whole));
    EXPECT_EQ(outcome.exit_code, 64) << outcome.err;
    const size_t first = outcome.err.find(message);
    EXPECT_NE(first, std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find(message, first + 1), std::string::npos) << outcome.err;
    EXPECT_THAT(outcome.err, testing::Not(HasSubstr("MPI_ABORT")));
  }
  EXPECT_FALSE(fs::exists(path("x4")));
}
TEST_F(BadInput, LauncherThatStartedSingletons) {
  Words words = train_words(folder_->path(), "singleton", 10);
  const Outcome outcome = run(words, {{"OMPI_COMM_WORLD_SIZE", "4"}}, "", std::chrono::seconds(20));
  EXPECT_EQ(outcome.exit_code, 64) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("OMPI_COMM_WORLD_SIZE"));
  EXPECT_FALSE(fs::exists(path("singleton")));
}

// prepare

TEST_F(BadInput, PrepareMissingInput) {
  expect_refusal({"prepare", "--input", path("none.txt"), "--output", path("p1")}, 64, HasSubstr("none.txt"));
  EXPECT_FALSE(fs::exists(path("p1")));
}
TEST_F(BadInput, PrepareEmptyInput) {
  write_text(path("empty.txt"), "");
  expect_refusal({"prepare", "--input", path("empty.txt"), "--output", path("p2")}, 64,
                 HasSubstr("empty.txt"));
  EXPECT_FALSE(fs::exists(path("p2")));
}
TEST_F(BadInput, PrepareUnknownTokenizer) {
  expect_refusal({"prepare", "--input", path("text.txt"), "--output", path("p3"), "--tokenizer", "nonsense"},
                 64, HasSubstr("nonsense"));
}
TEST_F(BadInput, PrepareOutputExists) {
  expect_refusal({"prepare", "--input", path("text.txt"), "--output", path("run")}, 64,
                 HasSubstr(path("run")));
}
TEST_F(BadInput, PrepareJsonlWithoutTheField) {
  write_text(path("odd.jsonl"), "{\"text\": \"fine\"}\n{\"body\": \"not\"}\n");
  expect_refusal({"prepare", "--input", path("odd.jsonl"), "--output", path("p4")}, 65,
                 AllOf(HasSubstr("odd.jsonl"), HasSubstr("2"), HasSubstr("text")));
  EXPECT_FALSE(fs::exists(path("p4")));
}
TEST_F(BadInput, PrepareTruncatedGzip) {
  write_text(path("cut.txt.gz"), std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c", 12));
  expect_refusal({"prepare", "--input", path("cut.txt.gz"), "--output", path("p5")}, 65,
                 HasSubstr("cut.txt.gz"));
}
TEST_F(BadInput, PrepareInvalidUtf8IsKeptAndCounted) {
  write_text(path("latin1.txt"), "caf\xe9 au lait, s'il vous pla\xeet\n");
  const Outcome outcome =
      run({diffmamba(), "prepare", "--input", path("latin1.txt"), "--output", path("p6")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err + outcome.out, HasSubstr("UTF-8"));
  const Outcome text = run({diffmamba(), "inspect", path("p6/train"), "--text"});
  EXPECT_THAT(text.out, HasSubstr("caf\xe9 au lait"));
}

// Datasets

TEST_F(BadInput, DatasetTruncated) {
  const std::string dataset = copy("data/train", "truncated");
  const std::string shard = first_shard(dataset);
  fs::resize_file(shard, fs::file_size(shard) - 100);
  expect_refusal(train_on("x", {"--data", dataset}), 65, HasSubstr(fs::path(shard).filename().string()));
  EXPECT_FALSE(fs::exists(path("x")));
  expect_refusal({"verify", dataset}, 65, HasSubstr(fs::path(shard).filename().string()));
}
TEST_F(BadInput, DatasetBitFlipped) {
  const std::string dataset = copy("data/train", "flipped");
  const std::string shard = first_shard(dataset);
  flip(shard, 20000);  // among the tokens
  expect_refusal({"verify", dataset}, 65, HasSubstr(fs::path(shard).filename().string()));
  expect_refusal(train_on("x1", {"--data", dataset}), 65, HasSubstr(fs::path(shard).filename().string()));
}
TEST_F(BadInput, StepThatFailsThreeTimesEndsTheRunForGood) {
  // A flipped block that a step comes to, on two ranks: each attempt resumes and dies there.
  const std::string dataset = copy("data/train", "poisoned");
  flip(first_shard(dataset), 4096 + 2 * 16384 + 10);  // the fifth block of tokens
  Words words = train_words(folder_->path(), "poisoned-run", 1000, {"--data", dataset, "--save-every", "2"});
  for (const int code : {65, 65, 78, 78}) {
    const Outcome outcome = run(on_ranks(2, words));
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("block"));
    if (code == 78) {
      EXPECT_THAT(outcome.err, AllOf(HasSubstr("times in a row"), HasSubstr("exit code 65")));
    }
  }
  EXPECT_THAT(read_text(path("poisoned-run/failures.json")), HasSubstr("\"times\": 4"));
}
TEST_F(BadInput, DatasetMissing) {
  expect_refusal(train_on("x2", {"--data", path("nowhere")}), 64, HasSubstr("nowhere"));
  EXPECT_FALSE(fs::exists(path("x2")));
}
TEST_F(BadInput, DatasetLargerThanTheVocabulary) {
  expect_refusal(train_on("x3", {"--vocab-size", "100"}), 64, HasSubstr("100"));
  EXPECT_FALSE(fs::exists(path("x3")));
}
TEST_F(BadInput, DatasetIsNoDataset) {
  fs::create_directories(path("folder"));
  expect_refusal({"verify", path("folder")}, 65, HasSubstr("folder"));
}

// Checkpoints

TEST_F(BadInput, ConfigThatDoesNotFitTheCheckpoint) {
  copy("run", "wider");
  expect_refusal(train_on("wider", {"--d-state", "8"}), 64,
                 AllOf(HasSubstr("d_state"), HasSubstr("16"), HasSubstr("8")));
}
TEST_F(BadInput, CheckpointFlippedTruncatedOrIncomplete) {
  const std::string run_folder = copy("run", "damaged");
  const std::string newest = newest_checkpoint(run_folder);
  flip(first_shard(newest), -50);
  expect_refusal({"verify", newest}, 65, HasSubstr(fs::path(first_shard(newest)).filename().string()));
  // One flip may sit in a moment, which generating does not read; flips all over the file reach the weights.
  for (int64_t part = 1; part < 16; ++part)
    flip(first_shard(newest), static_cast<int64_t>(fs::file_size(first_shard(newest))) * part / 16);
  expect_refusal({"generate", "--checkpoint", newest, "--prompt", "a"}, 65,
                 HasSubstr(fs::path(newest).filename().string()));
  fs::resize_file(first_shard(newest), 5000);
  expect_refusal({"verify", newest}, 65, HasSubstr(fs::path(first_shard(newest)).filename().string()));
  const std::string shard = first_shard(newest);
  fs::remove(shard);
  expect_refusal({"verify", newest}, 65, HasSubstr(fs::path(shard).filename().string()));
}
TEST_F(BadInput, NewestCheckpointDamagedFallsBackLoudly) {
  const std::string run_folder = copy("run", "fallback");
  flip(first_shard(newest_checkpoint(run_folder)), -50);
  Words words = train_words(folder_->path(), "fallback", 10);
  const Outcome outcome = run(words);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("step_000000010"));  // the one set aside
}
TEST_F(BadInput, AllCheckpointsDamagedNeverStartsOver) {
  const std::string run_folder = copy("run", "hopeless");
  for (const auto& entry : fs::directory_iterator(run_folder + "/checkpoints"))
    flip(first_shard(entry.path()), -50);
  expect_refusal(train_on("hopeless", {}), 65, HasSubstr("hopeless"));
}
TEST_F(BadInput, NoCheckpointToEvaluate) {
  fs::create_directories(path("void"));
  expect_refusal({"eval", "--checkpoint", path("void"), "--data", path("data/heldout")}, 65,
                 HasSubstr("void"));
}

// The machine

TEST_F(BadInput, TwoJobsOnOneRunDirectory) {
  Process first(train_words(folder_->path(), "shared", 100000));
  while (first.running() && read_text(path("shared.ledger")).empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const std::string before = read_text(path("shared/LOCK"));
  const Outcome second =
      run(train_words(folder_->path(), "shared", 100000), {}, "", std::chrono::seconds(10));
  EXPECT_EQ(second.exit_code, 73) << second.err;
  EXPECT_THAT(second.err, HasSubstr(std::to_string(first.pid())));
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait().exit_code, 75);
}
TEST_F(BadInput, InterruptSavesAndResumes) {
  Process process(train_words(folder_->path(), "interrupted", 100000));
  while (process.running() && read_text(path("interrupted.ledger")).empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.signal(SIGINT);
  EXPECT_EQ(process.wait().exit_code, 75);
  expect_refusal({"verify", path("interrupted")}, 0, HasSubstr(""));
}
TEST_F(BadInput, TerminalThatGoesAwaySavesAndResumes) {
  std::signal(SIGHUP, SIG_DFL);  // were these tests started under nohup, the run would be too
  Process process(train_words(folder_->path(), "hung-up", 100000));
  while (process.running() && read_text(path("hung-up.ledger")).empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.signal(SIGHUP);
  EXPECT_EQ(process.wait().exit_code, 75);
  EXPECT_THAT(read_text(path("hung-up/logs/rank-00000.log")),
              HasSubstr("signal 1 from process " + std::to_string(getpid())));
}
TEST_F(BadInput, NobodyReadsWhatARunPrints) {
  // The reader of the pipe goes after one line; the run comes to its end all the same.
  Words words = train_words(folder_->path(), "unread", 100, {"--log-every", "1"});
  std::string command = "{ exec 3>&1; ";
  for (const std::string& word : words) command += "'" + word + "' ";
  command += "2>&1 1>&3; echo $? > '" + path("unread.code") + "'; } | head -n 1";
  run({"sh", "-c", command});
  EXPECT_EQ(read_text(path("unread.code")), "0\n");
  EXPECT_THAT(read_text(path("unread/logs/rank-00000.log")), HasSubstr("done: 100 steps"));
}
TEST_F(BadInput, ReadOnlyRunDirectory) {
  const std::string folder = path("sealed");
  fs::create_directories(folder);
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  // Root may write anywhere, unless it gives up just that.
  Words words;
  if (geteuid() == 0) words = {"setpriv", "--bounding-set=-dac_override,-dac_read_search"};
  for (const std::string& word : train_words(folder_->path(), "sealed/run", 10, {})) words.push_back(word);
  const Outcome outcome = run(words, {}, "", std::chrono::seconds(20));
  EXPECT_EQ(outcome.exit_code, 77) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("sealed"));
}
TEST_F(BadInput, FullDisk) {
  // A file system of 8 MiB inside a mount namespace of its own; the third checkpoint does not fit beside the
  // others.
  if (run({"unshare", "--map-root-user", "--mount", "true"}).exit_code != 0)
    GTEST_SKIP() << "no user namespaces here: unshare --map-root-user --mount fails";
  const std::string disk = path("disk");
  fs::create_directories(disk);
  std::string command = "mount -t tmpfs -o size=8m none " + disk + " && head -c 7800000 /dev/zero > " + disk +
                        "/ballast && exec";
  for (const std::string& word : train_words(folder_->path(), "disk/run", 10)) command += " '" + word + "'";
  const Outcome outcome = run({"unshare", "--map-root-user", "--mount", "sh", "-c", command});
  EXPECT_EQ(outcome.exit_code, 74) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("space"));
}
TEST_F(BadInput, HelpIsNotAnError) {
  for (const char* command : {"prepare", "train", "eval", "generate", "inspect", "verify", "bench"}) {
    const Outcome outcome = run({diffmamba(), command, "--help"});
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("Usage:"));
  }
}

}  // namespace
}  // namespace dm::test
