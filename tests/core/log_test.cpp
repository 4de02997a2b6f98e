// Logging: what reaches the terminal and what the file, in a child whose stderr is a file.

#include "core/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "core/process.h"
#include "core/signals.h"
#include "tests/support/process.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::read_text;
using test::TemporaryFolder;
using testing::HasSubstr;
using testing::MatchesRegex;

/// stderr of a child that does `action` under DM_LOG=level.
std::string terminal_of(const std::function<void()>& action, const char* level = nullptr) {
  const TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    if (level != nullptr)
      setenv("DM_LOG", level, 1);
    else
      unsetenv("DM_LOG");
    dup2(::open((folder / "err").c_str(), O_WRONLY | O_CREAT, 0600), 2);
    action();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return read_text(folder / "err");
}

void say_all() {
  log_debug("debug {}", 1);
  log_info("info {}", 2);
  log_warn("warn {}", 3);
  log_error("error {}", 4);
}

TEST(LogTest, TheTerminalSaysMessagesAsTheyAre) {
  EXPECT_EQ(terminal_of(say_all), "info 2\nwarning: warn 3\nerror: error 4\n");
  EXPECT_EQ(terminal_of([] { log_info("{}", "{braces} %v stay"); }), "{braces} %v stay\n");
}

TEST(LogTest, LevelsByTheEnvironment) {
  EXPECT_EQ(terminal_of(say_all, "debug"), "debug 1\ninfo 2\nwarning: warn 3\nerror: error 4\n");
  EXPECT_EQ(terminal_of(say_all, "warn"), "warning: warn 3\nerror: error 4\n");
  EXPECT_EQ(terminal_of(say_all, "error"), "error: error 4\n");
  // What is no level, "off" included, leaves the default: a typing error must not hide errors.
  for (const char* level : {"", "off", "verbose", "INFO"})
    EXPECT_EQ(terminal_of(say_all, level), "info 2\nwarning: warn 3\nerror: error 4\n") << level;
}

TEST(LogTest, ATerminalThatIsOffStillGetsErrors) {
  EXPECT_EQ(terminal_of([] {
              set_log_terminal(false);
              say_all();
              set_log_terminal(true);
              log_info("back");
            }),
            "error: error 4\nback\n");
}

TEST(LogTest, TheFileHasTimeLevelAndRank) {
  const TemporaryFolder folder;
  const std::string path = folder / "rank_2.log";
  terminal_of([&] {
    set_process_identity(2, 3);
    set_log_terminal(false);
    set_log_file(path);
    say_all();
    set_log_file("");
    log_info("not there");
  });
  const std::string time =
      "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\\.[0-9][0-9][0-9]";
  EXPECT_THAT(read_text(path), MatchesRegex(time + " I rank 2: info 2\n" + time + " W rank 2: warn 3\n" +
                                            time + " E rank 2: error 4\n"));
}

TEST(LogTest, TheFileIsAppendedTo) {
  const TemporaryFolder folder;
  for (const char* text : {"first", "second"})
    terminal_of([&] {
      set_log_file(folder / "log");
      log_info("{}", text);
    });
  const std::string text = read_text(folder / "log");
  EXPECT_THAT(text, HasSubstr("rank 0: first\n"));
  EXPECT_THAT(text, HasSubstr("rank 0: second\n"));
}

TEST(LogTest, LinesOfAKilledProcessAreInTheFile) {
  const TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    setenv("DM_LOG", "debug", 1);
    set_log_terminal(false);
    set_log_file(folder / "log");
    log_debug("last words");
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_THAT(read_text(folder / "log"), HasSubstr("D rank 0: last words\n"));
}

TEST(LogTest, SignalsAreNotedInTheFileAsLongAsItIsOpen) {
  const TemporaryFolder folder;
  terminal_of([&] {
    install_signal_handlers();
    set_log_file(folder / "log");
    raise(SIGUSR1);
    set_log_file("");
    raise(SIGUSR1);
  });
  EXPECT_THAT(read_text(folder / "log"), MatchesRegex("signal 10 from process [0-9]+\n"));
}

TEST(LogTest, AFileThatCannotBeIsNamed) {
  EXPECT_EQ(test::refusal(ExitCode::io, [] { set_log_file("/nonexistent/log"); }),
            "/nonexistent/log: open: No such file or directory");
  EXPECT_EQ(test::refusal(ExitCode::io, [] { set_log_file("/tmp"); }), "/tmp: open: Is a directory");
}

TEST(LogTest, AClosedPipeEndsNothing) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ::close(ends[0]);
  const pid_t child = fork();
  if (child == 0) {
    install_signal_handlers();
    dup2(ends[1], 2);
    for (int i = 0; i < 10; ++i) log_info("nobody reads this");
    _exit(7);
  }
  ::close(ends[1]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace
}  // namespace dm
