// Signals, each in a forked child: what it asks for, what ends the process, what is ignored.

#include "core/signals.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <string>
#include <thread>

#include "tests/support/process.h"

namespace dm {
namespace {

/// The status of a child with the handlers installed that raises the signals and then ends with 10 + the
/// request. It may itself have been started under nohup or not.
int status_after(std::initializer_list<int> signals, void (*hangup_before)(int) = SIG_DFL) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGHUP, hangup_before);
    install_signal_handlers();
    for (const int signal : signals) raise(signal);
    _exit(10 + static_cast<int>(stop_requested()));
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

constexpr int kNone = 10, kSave = 11, kInterrupt = 12;

TEST(SignalsTest, WhatEachAsksFor) {
  EXPECT_EQ(status_after({}), kNone);
  EXPECT_EQ(status_after({SIGUSR1}), kSave);
  EXPECT_EQ(status_after({SIGTERM}), kSave);
  EXPECT_EQ(status_after({SIGHUP}), kSave);
  EXPECT_EQ(status_after({SIGINT}), kInterrupt);
}

TEST(SignalsTest, ABlockedSignalOfWhoeverStartedUsArrives) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  EXPECT_EQ(status_after({SIGUSR1}), kSave);
  EXPECT_EQ(status_after({SIGINT}), kInterrupt);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(SignalsTest, TheStrongestRequestStays) {
  EXPECT_EQ(status_after({SIGUSR1, SIGINT}), kInterrupt);
  EXPECT_EQ(status_after({SIGINT, SIGUSR1}), kInterrupt);
}

TEST(SignalsTest, SavingMayBeAskedForAgainAndAgain) {
  EXPECT_EQ(status_after({SIGUSR1, SIGUSR1, SIGUSR1}), kSave);
  EXPECT_EQ(status_after({SIGUSR1, SIGTERM, SIGUSR1}), kSave);
  EXPECT_EQ(status_after({SIGHUP, SIGTERM, SIGHUP}),
            kSave);  // a terminal that goes, seen by a launcher as well
}

TEST(SignalsTest, ASecondEndingSignalEndsTheProcessAtOnce) {
  EXPECT_EQ(status_after({SIGINT, SIGINT}), 128 + SIGINT);
  EXPECT_EQ(status_after({SIGTERM, SIGTERM}), 128 + SIGTERM);
  EXPECT_EQ(status_after({SIGTERM, SIGINT}), 128 + SIGINT);
  EXPECT_EQ(status_after({SIGINT, SIGTERM}), 128 + SIGTERM);
}

TEST(SignalsTest, BrokenPipesAndFileLimitsAreErrorsOfTheCall) {
  EXPECT_EQ(status_after({SIGPIPE}), kNone);
  EXPECT_EQ(status_after({SIGXFSZ}), kNone);
}

TEST(SignalsTest, WhoeverStartedItUnderNohupMeantIt) { EXPECT_EQ(status_after({SIGHUP}, SIG_IGN), kNone); }

TEST(SignalsTest, EachIsNotedWithItsSender) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "notes";
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGHUP, SIG_DFL);
    install_signal_handlers();
    raise(SIGUSR1);  // noted nowhere
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    note_signals_in(fd);
    errno = EXDEV;
    raise(SIGTERM);
    if (errno != EXDEV) _exit(1);
    raise(SIGHUP);
    note_signals_in(-1);
    raise(SIGUSR1);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const std::string sender = std::to_string(child);
  EXPECT_EQ(test::read_text(path),
            "signal 15 from process " + sender + "\nsignal 1 from process " + sender + "\n");
}

TEST(SignalsTest, AnotherThreadsSignalIsSeen) {
  const pid_t child = fork();
  if (child == 0) {
    install_signal_handlers();
    std::thread other([] { raise(SIGUSR1); });  // raise() signals the calling thread
    other.join();
    _exit(10 + static_cast<int>(stop_requested()));
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), kSave);
}

TEST(SignalsTest, AReadGoesOnAfterASignal) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    install_signal_handlers();
    char byte = 0;
    const ssize_t got = read(ends[0], &byte, 1);
    _exit(got == 1 && byte == 'x' && stop_requested() == StopRequest::save_and_stop ? 0 : 1);
  }
  usleep(200'000);  // until it waits in read(2); were it slower, the signal's default action would end it: a
                    // failure, not a pass
  kill(child, SIGUSR1);
  usleep(50'000);
  ASSERT_EQ(write(ends[1], "x", 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace dm
