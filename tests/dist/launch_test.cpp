// How jobs end and which launches are refused, seen from outside: real processes under the real mpirun.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <fmt/format.h>

namespace {

using testing::HasSubstr;

struct Outcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr
  double seconds = 0;
};

Outcome run(const std::string& command) {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);  // so that the test also runs outside ctest
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  FILE* pipe = popen(("timeout 30 " + command + " 2>&1").c_str(), "r");
  std::array<char, 4096> text;
  while (size_t got = fread(text.data(), 1, text.size(), pipe)) outcome.output.append(text.data(), got);
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

Outcome mpirun(int ranks, const std::string& arguments) {
  return run(fmt::format(DM_MPIRUN " --oversubscribe -n {} " DM_ABORT_HELPER " {}", ranks, arguments));
}

TEST(Launch, MpirunReturnsTheCodeThatOneRankAbortsWith) {
  for (const int code : {64, 65, 70, 71, 73, 74, 75, 77, 78})
    EXPECT_EQ(mpirun(2 + code % 2, fmt::format("abort {} {}", code, code % 3 == 0 ? 0 : 1)).exit_code, code);
}

TEST(Launch, AbortReachesRanksInsideACollective) {
  const Outcome outcome = mpirun(3, "abort 74 1");
  EXPECT_EQ(outcome.exit_code, 74);
  EXPECT_LT(outcome.seconds, 20);  // of `timeout 30`: a hang would end there with 124
}

TEST(Launch, AnExceptionPastTheEnvironmentEndsTheJob) {
  const Outcome outcome = mpirun(2, "unwind");
  EXPECT_EQ(outcome.exit_code, 70);
  EXPECT_THAT(outcome.output, HasSubstr("rank 1 ends the job"));
}

TEST(Launch, RanksThatFailAlikeKnowIt) {
  const auto words = [](const std::string& text, const std::string& word) {
    int count = 0;
    for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; ++at) ++count;
    return count;
  };
  EXPECT_EQ(words(mpirun(3, "end 64 2 64").output, "together"), 3);
  for (const char* codes : {"end 64 0 65", "end 64 2 65", "end 64 1 70"})
    EXPECT_EQ(words(mpirun(3, codes).output, "apart"), 3) << codes;
  EXPECT_EQ(words(mpirun(3, "end 64 1 0").output, "apart"), 2);  // one has nothing to complain of
  EXPECT_EQ(words(mpirun(1, "end 64 0 64").output, "together"), 1);
}

// A rank that hangs ends the job: named, with its stack, within the watchdog's time and two seconds. How long
// it takes to get there, and how late a busy machine does anything, a job that ends well tells.
TEST(Launch, TheWatchdogNamesWhoHangs) {
  constexpr double kWatchdog = 2;  // seconds
  const double undisturbed = mpirun(3, fmt::format("hang not 1 {}", kWatchdog)).seconds;
  const struct {
    const char* how;
    int rank;
    const char* message;
  } cases[] = {{"stop", 2, "no sign of life for 2 s"},
               {"stop", 0, "no sign of life for 2 s"},
               {"busy", 1, "the others wait in an exchange for"},
               {"other", 2, "most ranks are in exchange 6 (all-reduce), but"}};
  for (const auto& c : cases) {
    const Outcome outcome = mpirun(3, fmt::format("hang {} {} {}", c.how, c.rank, kWatchdog));
    EXPECT_EQ(outcome.exit_code, 71) << c.how << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(c.message)) << c.how;
    EXPECT_THAT(outcome.output, HasSubstr(fmt::format("  rank {} (process ", c.rank))) << c.how;
    EXPECT_THAT(outcome.output, HasSubstr("last step 5")) << c.how;
    EXPECT_LT(outcome.seconds, kWatchdog + 2 + 3 * undisturbed) << c.how;
  }
}

TEST(Launch, TheWatchdogTellsOfASlowRankAndLeavesAHealthyJobAlone) {
  const Outcome slow = mpirun(3, "hang slow 1 10");
  EXPECT_EQ(slow.exit_code, 0) << slow.output;
  EXPECT_THAT(slow.output, HasSubstr("rank 1 (process "));
  EXPECT_THAT(slow.output, HasSubstr("all wait for it"));
  const Outcome healthy = mpirun(3, "hang not 1 2");
  EXPECT_EQ(healthy.exit_code, 0) << healthy.output;
  EXPECT_THAT(healthy.output, testing::Not(HasSubstr("process")));
}

TEST(Launch, OneProcessAloneIsFine) {
  EXPECT_EQ(run(DM_ABORT_HELPER " start").exit_code, 0);
  // Without the search for leaks: LeakSanitizer itself crashes in a process whose MPI was finalised below an
  // exception.
  EXPECT_EQ(run("env ASAN_OPTIONS=detect_leaks=0 " DM_ABORT_HELPER " unwind").exit_code, 65)
      << "a single process ends with the error's own code";
  EXPECT_EQ(mpirun(1, "start").exit_code, 0);
}

// What a launcher leaves in the environment of processes that are no ranks of each other.
TEST(Launch, SingletonsAreRefused) {
  const struct {
    const char* environment;
    const char* named;
  } cases[] = {{"OMPI_COMM_WORLD_SIZE=3", "3 processes (OMPI_COMM_WORLD_SIZE)"},
               {"SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NODELIST=n1",
                "2 processes (SLURM_STEP_NUM_TASKS)"},
               {"SLURM_STEP_NUM_TASKS=2 PMI_RANK=0", "2 processes (SLURM_STEP_NUM_TASKS)"}};
  const double start = run(DM_ABORT_HELPER " start").seconds;  // on this machine, as busy as it is
  for (const auto& c : cases) {
    const Outcome outcome = run(fmt::format("env {} " DM_ABORT_HELPER " start", c.environment));
    EXPECT_EQ(outcome.exit_code, 64) << c.environment;
    EXPECT_THAT(outcome.output, HasSubstr(c.named));
    EXPECT_THAT(outcome.output, HasSubstr("mpirun of the MPI this program is linked with"));
    EXPECT_LT(outcome.seconds, 2 + 2 * start) << c.environment;  // documented: two seconds
  }
}

TEST(Launch, AStepOfMpirunInsideSlurmIsNotMistaken) {
  EXPECT_EQ(run("env SLURM_STEP_NUM_TASKS=4 " DM_MPIRUN
                " --oversubscribe --mca plm isolated -n 1 " DM_ABORT_HELPER " start")
                .exit_code,
            0);
  EXPECT_EQ(run("env SLURM_STEP_NUM_TASKS=1 " DM_ABORT_HELPER " start").exit_code, 0);
  EXPECT_EQ(run("env OMPI_COMM_WORLD_SIZE=three " DM_ABORT_HELPER " start").exit_code, 0);
}

}  // namespace
