// Jobs that are killed or starved while they save, seen from outside. After each: every committed directory
// verifies, the newest is the old state or the new one as the exit says, and the next start finds its way.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "checkpoints/names.h"
#include "checkpoints/store.h"
#include "tests/support/process.h"

namespace dm::checkpoints {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using testing::HasSubstr;
using testing::IsEmpty;

// Failpoints in the order a save passes them. Killed at one of the first, a job leaves the old state; at one
// of the last, the new.
const std::vector<std::string> kBeforeCommit{
    "save.before_mkdir",   "save.after_mkdir",  "save.after_create", "save.after_allocate",
    "save.in_payload",     "save.before_sync",  "save.after_sync",   "save.before_manifest",
    "save.after_manifest", "save.after_commit", "save.before_rename"};
const std::vector<std::string> kAfterCommit{"save.after_rename", "save.after_latest",
                                            "retention.before_rename", "retention.after_rename"};

class FaultTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    // Hundreds of runs: on a busy disk their fsyncs would take minutes, and a killed process loses nothing by
    // them.
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);  // so that the test also runs outside ctest
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }

  std::vector<std::string> helper(int ranks, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), DM_FAULT_HELPER);
    return ranks == 1 ? arguments : test::mpirun(ranks, arguments);
  }
  Outcome run(int ranks, const std::vector<std::string>& arguments, const std::string& failpoint = "") const {
    return test::run(helper(ranks, arguments), {{"DM_FAILPOINT", failpoint}}, "", std::chrono::seconds(60));
  }

  /// A run directory of its own; with steps 1 and 2 (keep_last is 2, so that the next save also deletes).
  std::string fresh_run(bool with_checkpoints = true) {
    const std::string path = folder_ / ("run" + std::to_string(++runs_)), model = folder_ / "model";
    if (!with_checkpoints) return path;
    if (!fs::exists(model) && run(1, {"save", model, "1", "2"}).exit_code != 0)
      ADD_FAILURE() << "nothing to start from";
    fs::copy(model, path, fs::copy_options::recursive);
    return path;
  }

  /// Every committed directory verifies; the next start finds `newest`, and cleans up.
  void expect_sound(const std::string& path, const std::string& newest, const std::string& why) {
    for (const std::string& directory : list(path)) EXPECT_THAT(verify(directory), IsEmpty()) << why;
    const Outcome resumed = run(1, {"resume", path});
    EXPECT_EQ(resumed.exit_code, 0) << why << resumed.err;
    EXPECT_EQ(resumed.out, "newest " + newest + "\n") << why;
    EXPECT_THAT(strangers(path), IsEmpty()) << why;
  }

  /// Names in a run that neither a user nor a commit put there.
  static std::vector<std::string> strangers(const std::string& path) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path))
      if (is_run_leftover_name(entry.path().filename().string())) found.push_back(entry.path());
    for (const auto& entry : fs::directory_iterator(path + "/checkpoints"))
      if (!parse_step_name(entry.path().filename().string())) found.push_back(entry.path());
    return found;
  }

  test::TemporaryFolder folder_;
  int runs_ = 0;
};

TEST_F(FaultTest, KilledAtEveryStepOfASave) {
  for (const bool commits : {false, true})
    for (const std::string& place : commits ? kAfterCommit : kBeforeCommit) {
      const std::string path = fresh_run();
      EXPECT_EQ(run(1, {"save", path, "3"}, place + "=kill").exit_code, 128 + SIGKILL) << place;
      expect_sound(path, commits ? "3" : "2", place);
      EXPECT_EQ(run(1, {"save", path, "3"}).exit_code, 0) << place << ": and then it goes on";
      expect_sound(path, "3", place);
    }
}

TEST_F(FaultTest, KilledInTheFirstSaveOfARun) {
  for (const std::string& place : kBeforeCommit) {
    const std::string path = fresh_run(false);
    EXPECT_EQ(run(1, {"save", path, "1"}, place + "=kill").exit_code, 128 + SIGKILL) << place;
    expect_sound(path, "none", place);
  }
  const std::string path = fresh_run(false);
  EXPECT_EQ(run(1, {"save", path, "1"}, "save.after_rename=kill").exit_code, 128 + SIGKILL);
  expect_sound(path, "1", "after the rename");
}

TEST_F(FaultTest, OneRankOfTwoKilledEndsTheJobAndTheNextOneResumes) {
  for (const std::string place : {"save.in_payload@1", "save.after_commit@0", "save.after_rename@0"}) {
    const std::string path = fresh_run();
    const Outcome outcome = run(2, {"save", path, "3"}, place + "=kill");
    EXPECT_FALSE(outcome.timed_out) << place;
    EXPECT_NE(outcome.exit_code, 0) << place;
    expect_sound(path, place.starts_with("save.after_rename") ? "3" : "2", place);
  }
}

TEST_F(FaultTest, AFailingSaveIsTheErrorOfAllRanksAndLeavesNothing) {
  for (const int ranks : {1, 2})
    for (const auto& [action, code] : {std::pair{"enospc", 74}, {"eio", 74}, {"throw", 70}})
      for (const std::string& place : kBeforeCommit) {
        if (ranks == 2 && (place != "save.in_payload" || std::string(action) == "throw"))
          continue;  // each mpirun takes half a second
        const std::string path = fresh_run();
        const Outcome outcome =
            run(ranks, {"save", path, "3"}, fmt::format("{}{}={}", place, ranks == 2 ? "@1" : "", action));
        EXPECT_EQ(outcome.exit_code, code) << place << outcome.err;
        EXPECT_THAT(outcome.err, HasSubstr("failpoint")) << place;
        EXPECT_THAT(strangers(path), IsEmpty()) << place << ": left behind";
        expect_sound(path, "2", place);
      }
}

TEST_F(FaultTest, WhatFailsAfterTheCommitDoesNotUndoIt) {
  for (const std::string& place : {kAfterCommit[1], kAfterCommit[2], kAfterCommit[3]}) {
    const std::string path = fresh_run();
    const Outcome outcome = run(1, {"save", path, "3"}, place + "=eio");
    EXPECT_EQ(outcome.exit_code, 0) << place;
    EXPECT_THAT(outcome.err, HasSubstr("warning: step 3 is saved, but")) << place;
    expect_sound(path, "3", place);
  }
}

TEST_F(FaultTest, Row24_ARenameThatWasDoneAndReportedFailedIsACommit) {
  const std::string path = fresh_run();
  const Outcome outcome =
      test::run(helper(1, {"save", path, "3"}), {{"LD_PRELOAD", DM_LIAR}, {"DM_LIE", "rename"}});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(list(path).size(), 2u);
  expect_sound(path, "3", "the answer was lost");
}

// --- the kernel's own refusals ---

/// Runs a shell script as root of a namespace of its own, where it may mount; skips where the machine forbids
/// that.
#define DM_IN_NAMESPACE(outcome, script)                          \
  if (test::run({"unshare", "-rm", "true"}).exit_code != 0)       \
    GTEST_SKIP() << "no user namespaces here: unshare -rm fails"; \
  const Outcome outcome = test::run({"unshare", "-rm", "sh", "-c", script})

TEST_F(FaultTest, FullDiskIsFoundBeforeItHurts) {
  const std::string disk = folder_ / "disk";
  fs::create_directory(disk);
  // 2 MiB hold one checkpoint and the room a save asks for, but not the third.
  DM_IN_NAMESPACE(
      outcome,
      fmt::format(
          "mount -t tmpfs -o size=2m none {0} && {1} save {0}/run 1 && head -c 1100000 /dev/zero > {0}/fill\n"
          "{1} save {0}/run 2; echo code $?; ls -A {0}/run/checkpoints; rm {0}/fill; {1} save {0}/run 2 && "
          "{1} resume {0}/run",
          disk, DM_FAULT_HELPER));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "newest none\nnewest 1\ncode 74\nstep_000000001\nnewest 1\nnewest 2\n");
  EXPECT_THAT(outcome.err, HasSubstr("a checkpoint of step 2 needs"));
  EXPECT_THAT(outcome.err, HasSubstr("free space there or choose another run directory"));
}

TEST_F(FaultTest, ReadOnlyDirectoriesAreFoundAtStart) {
  const std::string disk = folder_ / "disk";
  fs::create_directory(disk);
  DM_IN_NAMESPACE(
      outcome,
      fmt::format("mount -t tmpfs -o size=4m none {0} && {1} save {0}/run 1 && mount -o remount,ro {0}\n"
                  "{1} resume {0}/run; echo old $?; {1} save {0}/new 1; echo new $?",
                  disk, DM_FAULT_HELPER));
  EXPECT_EQ(outcome.out, "newest none\nold 77\nnew 77\n") << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("the file system is read-only: choose another directory"));
}

TEST_F(FaultTest, ForbiddenDirectoriesAreFoundAtStart) {
  fs::permissions(folder_.path(), fs::perms::all);
  const auto closed =
      fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec;
  for (const bool inner : {false, true}) {  // the run directory, or only the one for checkpoints in it
    const std::string path = fresh_run(false);
    fs::create_directories(path + "/checkpoints");
    fs::permissions(path, fs::perms::all);
    fs::permissions(inner ? path + "/checkpoints" : path, closed);
    std::vector<std::string> words = helper(1, {"save", path, "1"});
    if (geteuid() == 0)
      words.insert(words.begin(), {"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"});
    const Outcome outcome = test::run(words);
    EXPECT_EQ(outcome.exit_code, 77) << outcome.err;
    EXPECT_EQ(outcome.out, "") << "found too late";
    EXPECT_THAT(outcome.err, HasSubstr("check its owner and mode, or choose another directory"));
  }
}

TEST_F(FaultTest, ALimitOnFileSizesIsAnErrorNotADeath) {
  // In units of 512 bytes: below the payload, below it with HDF5's metadata, below the whole file.
  for (const int limit : {4, 12, 24}) {
    const std::string path = fresh_run();
    const Outcome outcome =
        test::run({"sh", "-c", fmt::format("ulimit -f {}; exec {} save {} 3", limit, DM_FAULT_HELPER, path)});
    EXPECT_EQ(outcome.exit_code, 74) << limit << outcome.err;
    EXPECT_THAT(outcome.err,
                HasSubstr(limit == 4 ? "File too large; raise the limit on file sizes (ulimit -f)"
                                     : "File too large"));
    EXPECT_THAT(strangers(path), IsEmpty());
    expect_sound(path, "2", "file too large");
  }
}

TEST_F(FaultTest, TooFewDescriptorsAreAnErrorAndCondemnNoCheckpoint) {
  const std::string path = fresh_run();
  for (int limit = 4; limit <= 10; ++limit) {
    const Outcome outcome =
        test::run({"sh", "-c", fmt::format("ulimit -n {}; exec {} save {} 3", limit, DM_FAULT_HELPER, path)});
    EXPECT_TRUE(outcome.exit_code == 74 || outcome.exit_code == 0 || outcome.exit_code == 127)
        << limit << ": " << outcome.exit_code << outcome.err;
    expect_sound(path, outcome.exit_code == 0 ? "3" : "2", fmt::format("{} descriptors", limit));
    if (outcome.exit_code == 0) break;
  }
}

// --- killed while it reads ---

/// Every file of a run with what is in it, but for the lock and what says who had it.
std::map<std::string, std::string> content(const std::string& path) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && entry.path().filename() != "LOCK")
      files[entry.path()] = test::read_text(entry.path());
  return files;
}

TEST_F(FaultTest, Row08_KilledFiveTimesWhileLoadingNothingHasChanged) {
  if (test::run({"strace", "-f", "-qq", "-o", "/dev/null", "true"}).exit_code != 0)
    GTEST_SKIP() << "no ptrace here: strace fails";
  const std::string path = fresh_run();
  const auto before = content(path);
  for (const int when : {1, 4, 9, 20, 33}) {
    std::vector<std::string> words = helper(1, {"resume", path});
    words.insert(words.begin(), {"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64", "-e",
                                 fmt::format("inject=pread64:signal=SIGKILL:when={}", when)});
    EXPECT_EQ(test::run(words).exit_code, 128 + SIGKILL) << when;
    EXPECT_EQ(content(path), before) << when;
  }
  RecordProperty("trials", 5);
  expect_sound(path, "2", "killed while loading");
}

// --- a device that cannot read back what it stored ---

class ReadErrorTest : public FaultTest {
 protected:
  void SetUp() override {
    if (test::run({"strace", "-f", "-qq", "-o", "/dev/null", "true"}).exit_code != 0)
      GTEST_SKIP() << "no ptrace here: strace fails";
  }
  static std::string shard(const std::string& run, int64_t step) {
    return run + "/checkpoints/" + step_name(step) + "/shard-00000-of-00001.h5";
  }
  /// The helper with reads of these files failing; `when` as strace has it, "3" the third, "3+" all from
  /// there.
  Outcome run_with_eio(const std::vector<std::string>& arguments, const std::vector<std::string>& files,
                       const std::string& when) {
    std::vector<std::string> words{"strace", "-f", "-qq", "-o", folder_ / "strace"};
    for (const std::string& file : files) words.insert(words.end(), {"-P", file});
    words.insert(words.end(),
                 {"-e", "trace=pread64,read", "-e", "inject=pread64,read:error=EIO:when=" + when});
    const auto whole = helper(1, arguments);
    words.insert(words.end(), whole.begin(), whole.end());
    return test::run(words);
  }
  bool injected() const { return test::read_text(folder_ / "strace").find("INJECTED") != std::string::npos; }
};

TEST_F(ReadErrorTest, TheCheckpointBeforeIsUsedWhicheverReadFails) {
  int trials = 0;
  for (int when = 1; when < 200; ++when, ++trials) {
    const std::string path = fresh_run();
    const Outcome outcome = run_with_eio({"resume", path}, {shard(path, 2)}, std::to_string(when));
    if (!injected()) break;
    if (outcome.out == "newest 2\n") {  // it verified, and then fails to load: the next start finds out
      EXPECT_EQ(outcome.exit_code, 74) << when << outcome.err;
      EXPECT_GT(when, 5);
      break;
    }
    EXPECT_EQ(outcome.exit_code, 0) << when << outcome.err;
    EXPECT_EQ(outcome.out, "newest 1\n") << when << outcome.err;
    EXPECT_TRUE(fs::exists(path + "/checkpoints/" + corrupt_name(2, 0))) << when;
  }
  EXPECT_GT(trials, 5);  // chunks, metadata, and what libhdf5 reads
  std::printf("%d reads\n", trials);
}

TEST_F(ReadErrorTest, ManifestAndCommitLikewise) {
  for (const char* file : {kManifestName, kCommitName}) {
    const std::string path = fresh_run();
    const Outcome outcome =
        run_with_eio({"resume", path}, {path + "/checkpoints/" + step_name(2) + "/" + file}, "1+");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "newest 1\n") << file;
  }
}

TEST_F(ReadErrorTest, WhenNoneIsLeftTheDeviceIsNamedAndNothingMoves) {
  const std::string path = fresh_run();
  const Outcome outcome = run_with_eio({"resume", path}, {shard(path, 1), shard(path, 2)}, "1+");
  EXPECT_EQ(outcome.exit_code, 74) << outcome.err;
  EXPECT_THAT(outcome.err,
              testing::AllOf(HasSubstr("none of its checkpoints verifies"), HasSubstr("Input/output error"),
                             HasSubstr(shard(path, 1)), HasSubstr(shard(path, 2))));
  expect_sound(path, "2", "after the device recovered");
}

TEST_F(ReadErrorTest, TheOnlyOtherCheckpointGoesOnlyAfterTheNewOneWasReadBack) {
  const std::string sound = fresh_run(), unsound = fresh_run();
  EXPECT_EQ(run(1, {"save-one", sound, "3"}).exit_code, 0);
  EXPECT_EQ(list(sound).size(), 1u);
  const Outcome outcome = run_with_eio({"save-one", unsound, "3"}, {shard(unsound, 3)}, "1+");
  EXPECT_TRUE(injected());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              testing::AllOf(HasSubstr("step 3 is saved, but reading it back failed"), HasSubstr("kept")));
  EXPECT_EQ(list(unsound).size(), 3u);
}

// --- every system call of a save, in turn ---

class SystemCallTest : public FaultTest, public testing::WithParamInterface<const char*> {};

TEST_P(SystemCallTest, FailingOrKilledAtEachOne) {
  if (test::run({"strace", "-f", "-qq", "-o", "/dev/null", "true"}).exit_code != 0)
    GTEST_SKIP() << "no ptrace here: strace fails";
  const std::string call = GetParam();
  const bool takes_space = call == "pwrite64" || call == "fallocate" || call == "mkdir";
  const bool is_repeated = call == "pwrite64" || call == "fallocate";  // where a signal came between
  int all_trials = 0;
  for (const std::string fault :
       {"signal=SIGKILL", "error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR"}) {
    if ((fault == "error=ENOSPC" || fault == "error=EDQUOT") && !takes_space) continue;
    if (fault == "error=EINTR" && !is_repeated) continue;
    // Killed at each; the many writes of one file fail alike.
    const int stride = call == "pwrite64" && fault != "signal=SIGKILL" ? 3 : 1;
    int trials = 0;
    for (int when = 1; when < 100; when += stride) {
      const std::string path = fresh_run(), log = folder_ / "strace",
                        why = fmt::format("{}:{} at call {}", call, fault, when);
      std::vector<std::string> words = helper(1, {"save", path, "3"});
      words.insert(words.begin(), {"strace", "-f", "-qq", "-o", log, "-e", "trace=" + call, "-e",
                                   fmt::format("inject={}:{}:when={}", call, fault, when)});
      const Outcome outcome = test::run(words);
      const bool reached =
          test::read_text(log).find("INJECTED") != std::string::npos || outcome.exit_code == 128 + SIGKILL;
      if (!reached) break;
      ++trials;
      // Saved or not, the exit code and the directory tell the same; killed, it is the one or the other.
      const bool saved = !list(path).empty() && list(path)[0].ends_with(step_name(3));
      const bool killed = outcome.exit_code == 128 + SIGKILL;
      EXPECT_TRUE(killed || saved == (outcome.exit_code == 0))
          << why << ": " << outcome.exit_code << outcome.err;
      EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 74 || outcome.exit_code == 128 + SIGKILL)
          << why << ": " << outcome.exit_code << outcome.err;
      if (fault == "error=EINTR") {
        EXPECT_EQ(outcome.exit_code, 0) << why << outcome.err;
      }
      expect_sound(path, saved ? "3" : "2", why);
    }
    all_trials += trials;
    EXPECT_GT(trials, 0) << call << " is never called";
    std::printf("%s %s: %d trials\n", call.c_str(), fault.c_str(), trials);
  }
  RecordProperty("trials", all_trials);
}

INSTANTIATE_TEST_SUITE_P(Calls, SystemCallTest,
                         testing::Values("pwrite64", "fsync", "mkdir", "fallocate", "rename", "renameat2",
                                         "unlink", "unlinkat", "ftruncate", "flock"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dm::checkpoints
