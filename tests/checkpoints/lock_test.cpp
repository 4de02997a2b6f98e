#include "checkpoints/lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "core/error.h"
#include "core/log.h"
#include "tests/support/process.h"

namespace dm::checkpoints {
namespace {

using namespace std::chrono_literals;
using test::read_text;
using test::write_text;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

// The clocks of the rules shortened: what is tested is their order, not their length.
const LockTiming kQuick{.bump = 20ms, .still = 300ms, .poll = 20ms, .release = 100ms};

class LockTest : public testing::Test {
 protected:
  test::TemporaryFolder run_;
  const std::string path_ = run_ / "LOCK";

  /// The message of the refusal, "" when the lock is taken (and let go again).
  std::string refusal(const LockTiming& timing = kQuick) {
    try {
      RunLock lock(run_.path(), timing);
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::locked);
      return error.what();
    }
  }
  static Lease elsewhere() {
    Lease lease = Lease::mine();
    lease.host = "another-host";
    lease.boot_id = "another-boot";
    return lease;
  }
};

TEST_F(LockTest, IsTakenHeldAndLetGo) {
  {
    RunLock lock(run_.path(), kQuick);
    lock.require_held();
    EXPECT_TRUE(Lease::parse(read_text(path_)));
    EXPECT_THAT(refusal(), HasSubstr("in use by process " + std::to_string(getpid())));
  }
  EXPECT_EQ(read_text(path_), "");
  EXPECT_EQ(refusal(), "");
}

TEST_F(LockTest, ALiveHolderOnThisHostIsNamedWithinTwoSecondsAndADeadOneTakenOver) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    RunLock lock(run_.path());
    if (write(ready[1], "x", 1) == 1) pause();
    _exit(1);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const auto start = Clock::now();
  const std::string before = read_text(path_);
  EXPECT_THAT(refusal(LockTiming{}), HasSubstr("in use by process " + std::to_string(holder)));
  EXPECT_LT(Clock::now() - start, 2s);  // the documented bound
  EXPECT_EQ(read_text(path_), before) << "the second job changed the first one's lock";

  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  EXPECT_TRUE(Lease::parse(read_text(path_))) << "a killed job leaves its lease";
  const auto again = Clock::now();
  EXPECT_EQ(refusal(LockTiming{}), "");
  EXPECT_LT(Clock::now() - again, 2s);
}

TEST_F(LockTest, LeasesOfDeadProcessesAreTakenOver) {
  Lease dead = Lease::mine();
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  dead.pid = child;
  write_text(path_, dead.text());
  EXPECT_EQ(refusal(), "");

  Lease reused = Lease::mine();  // this process has the id of the one that died
  ++reused.start_time;
  write_text(path_, reused.text());
  EXPECT_EQ(refusal(), "");

  Lease before_reboot = Lease::mine();
  before_reboot.boot_id = "00000000-0000-0000-0000-000000000000";
  write_text(path_, before_reboot.text());
  const auto start = Clock::now();
  EXPECT_EQ(refusal(LockTiming{}), "");
  EXPECT_LT(Clock::now() - start, 2s) << "nothing to watch: the process cannot have outlived its host";
}

TEST_F(LockTest, ACounterThatStandsStillIsDeadAndOneThatMovesIsNot) {
  Lease other = elsewhere();
  write_text(path_, other.text());
  const auto start = Clock::now();
  EXPECT_EQ(refusal(), "");
  EXPECT_GE(Clock::now() - start, kQuick.still);

  write_text(path_, other.text());
  std::thread holder([&] {
    std::this_thread::sleep_for(120ms);
    ++other.counter;
    File::open(path_, O_WRONLY).write_at(other.text().data(), other.text().size(), 0);
  });
  EXPECT_THAT(refusal(), HasSubstr("process " + std::to_string(other.pid) + " on another-host"));
  holder.join();
}

TEST_F(LockTest, AHolderThatLetsGoWhileWatchedIsFollowedAtOnce) {
  write_text(path_, elsewhere().text());
  std::thread holder([&] {
    std::this_thread::sleep_for(100ms);
    write_text(path_, "");
  });
  const auto start = Clock::now();
  EXPECT_EQ(refusal({.bump = 20ms, .still = 20s, .poll = 20ms, .release = 100ms}), "");
  EXPECT_LT(Clock::now() - start, 10s);
  holder.join();
}

TEST_F(LockTest, ARequeuedSlurmJobTakesOverFromItsEarlierStart) {
  Lease earlier = elsewhere();
  earlier.slurm_job = "55";
  write_text(path_, earlier.text());
  // As a lock server that does not know yet that the node has died.
  File dead_node = File::open(path_, O_RDWR);
  ASSERT_EQ(flock(dead_node.fd(), LOCK_EX), 0);
  setenv("SLURM_JOB_ID", "55", 1);
  setenv("SLURM_RESTART_COUNT", "1", 1);
  {
    RunLock lock(run_.path(), kQuick);
    lock.require_held();
    EXPECT_EQ(Lease::parse(read_text(path_))->slurm_restarts, 1);
  }
  EXPECT_EQ(read_text(path_), "");
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_RESTART_COUNT");
}

TEST_F(LockTest, TheCounterMoves) {
  RunLock lock(run_.path(), kQuick);
  const auto counter = [&] { return Lease::parse(read_text(path_)).value_or(Lease{}).counter; };
  const auto end = Clock::now() + 10s;
  while (counter() < 3 && Clock::now() < end) std::this_thread::sleep_for(5ms);
  EXPECT_GE(counter(), 3);
}

TEST_F(LockTest, AFlippedByteChangesNothing) {
  RunLock lock(run_.path());
  const std::string whole = read_text(path_);
  for (size_t i = 0; i < whole.size(); i += 7) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 4);
    File::open(path_, O_WRONLY).write_at(flipped.data(), flipped.size(), 0);
    const auto read = Lease::parse(flipped);
    if (read && read->nonce != Lease::parse(whole)->nonce) continue;  // as good as another job's
    EXPECT_NO_THROW(lock.require_held()) << "byte " << i;
  }
}

TEST_F(LockTest, GarbageIsNoHolder) {
  for (const std::string& text : {std::string("what?"), std::string(4096, '\xff'), std::string(1024, '\0')}) {
    write_text(path_, text);
    EXPECT_EQ(refusal(), "");
  }
}

TEST_F(LockTest, WhoeverHoldsTheFileLivesEvenWhenItsTextSaysNothing) {
  for (const std::string& text : {std::string(), std::string("what?")}) {
    write_text(path_, text);
    const File holder = File::open(path_, O_RDWR);
    ASSERT_EQ(flock(holder.fd(), LOCK_EX), 0);
    EXPECT_THAT(refusal(), HasSubstr("in use by another job, which does not say who it is"));
  }
}

TEST_F(LockTest, AJobThatLostItsLockIsTold) {
  RunLock lock(run_.path());
  write_text(path_, elsewhere().text());  // taken over on another host while this one was stopped
  try {
    lock.require_held();
    ADD_FAILURE() << "still held";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::locked);
    EXPECT_THAT(error.what(), HasSubstr("on another-host does"));
  }
  unlink(path_.c_str());
  EXPECT_THROW(lock.require_held(), Error);
}

TEST_F(LockTest, ASymbolicLinkIsNotFollowed) {
  ASSERT_EQ(symlink("/etc/hostname", path_.c_str()), 0);
  EXPECT_THROW(RunLock(run_.path(), kQuick), Error);
}

}  // namespace
}  // namespace dm::checkpoints
