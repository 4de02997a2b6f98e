#include "checkpoints/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

namespace dm::checkpoints {
namespace {

Lease lease(const char* host, const char* boot, const char* job = "", int64_t restarts = 0) {
  return {host, boot, 4711, 100, job, restarts, "0123456789abcdef", 5};
}

TEST(Lease, IsWrittenAndReadBackAtAFixedLength) {
  Lease mine = Lease::mine();
  EXPECT_EQ(mine.pid, getpid());
  EXPECT_FALSE(mine.boot_id.empty());
  EXPECT_GT(mine.start_time, 0);
  const size_t length = mine.text().size();
  mine.counter = INT64_MAX;
  mine.slurm_job = "12345";
  EXPECT_EQ(mine.text().size(), length);
  const auto read = Lease::parse(mine.text());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->text(), mine.text());
}

TEST(Lease, NothingElseIsOne) {
  const std::string text = lease("h", "b").text();
  std::string flipped = text;
  flipped[2] ^= 1;  // the first key
  const std::string nested = std::string(500, '[') + std::string(524, ' ');
  for (const std::string& bad : {std::string(), std::string("{}"), text.substr(1), text + " ", flipped,
                                 std::string(1024, '\0'), nested})
    EXPECT_FALSE(Lease::parse(bad));
}

TEST(Lease, HolderIsNamed) {
  EXPECT_EQ(lease("node7", "b").holder(), "process 4711 on node7");
  EXPECT_EQ(lease("node7", "b", "55").holder(), "process 4711 on node7 (SLURM job 55)");
}

TEST(Lease, JudgedByEveryRule) {
  const Lease me = lease("node1", "boot-a", "55", 2);
  const auto judged = [&](const Lease& holder, OsLock os_lock, bool runs) {
    return judge(holder, me, os_lock, runs);
  };
  const Lease here = lease("node1", "boot-a"), before_reboot = lease("node1", "boot-0"),
              elsewhere = lease("node2", "boot-b");
  // This host, this boot: the process table knows. A lock held by somebody means somebody lives (another
  // container's process).
  EXPECT_EQ(judged(here, OsLock::busy, true), Verdict::refuse);
  EXPECT_EQ(judged(here, OsLock::busy, false), Verdict::refuse);
  EXPECT_EQ(judged(here, OsLock::acquired, false), Verdict::take);
  EXPECT_EQ(judged(here, OsLock::acquired, true), Verdict::refuse);
  EXPECT_EQ(judged(here, OsLock::unsupported, true), Verdict::refuse);
  EXPECT_EQ(judged(here, OsLock::unsupported, false), Verdict::take);
  // This host before it was started anew; without a lock it could be another host of the same name.
  EXPECT_EQ(judged(before_reboot, OsLock::acquired, false), Verdict::take);
  EXPECT_EQ(judged(before_reboot, OsLock::unsupported, false), Verdict::watch);
  EXPECT_EQ(judged(before_reboot, OsLock::busy, false), Verdict::refuse);
  // Another host: only its counter tells.
  EXPECT_EQ(judged(elsewhere, OsLock::busy, false), Verdict::refuse);
  EXPECT_EQ(judged(elsewhere, OsLock::acquired, false), Verdict::watch);
  EXPECT_EQ(judged(elsewhere, OsLock::unsupported, false), Verdict::watch);
  // The same SLURM job, started again: whatever the lock server still believes.
  for (const OsLock os_lock : {OsLock::busy, OsLock::acquired, OsLock::unsupported}) {
    EXPECT_EQ(judged(lease("node2", "boot-b", "55", 1), os_lock, false), Verdict::take);
    EXPECT_NE(judged(lease("node2", "boot-b", "55", 2), os_lock, false), Verdict::take)
        << "the same start of it";
    EXPECT_NE(judged(lease("node2", "boot-b", "56", 1), os_lock, false), Verdict::take) << "another job";
  }
  EXPECT_EQ(judged(lease("node1", "boot-a", "55", 1), OsLock::busy, true), Verdict::refuse)
      << "still ending on this very host";
  // Outside SLURM an empty job is not the same job.
  EXPECT_EQ(judge(elsewhere, lease("node1", "boot-a", "", 2), OsLock::acquired, false), Verdict::watch);
}

TEST(Lease, AProcessIsKnownByItsStartTimeToo) {
  Lease mine = Lease::mine();
  EXPECT_TRUE(process_runs(mine));
  ++mine.start_time;  // an earlier process had this id
  EXPECT_FALSE(process_runs(mine));

  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t ended;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  Lease zombie = Lease::mine();
  zombie.pid = child;
  std::ifstream stat(fmt::format("/proc/{}/stat", child));
  for (int i = 1; i <= 22; ++i) {
    std::string field;
    stat >> field;
    if (i == 22) zombie.start_time = std::stoll(field);
  }
  EXPECT_FALSE(process_runs(zombie)) << "ended, but nobody has asked for its exit code";
  waitpid(child, nullptr, 0);
  mine.pid = child;
  EXPECT_FALSE(process_runs(mine));
}

}  // namespace
}  // namespace dm::checkpoints
