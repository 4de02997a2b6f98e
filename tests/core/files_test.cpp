// Files: whole reads and writes or an error that names file, place and remedy.

#include "core/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/process.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::read_text;
using test::refusal;
using test::TemporaryFolder;
using test::write_text;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

/// The exit code of `action` run in a forked child that `prepare` has changed for good (limits, user). An
/// Error becomes its code, anything else 1.
int in_child(const std::function<void()>& prepare, const std::function<void()>& action) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      prepare();
      action();
      _exit(0);
    } catch (const Error& error) {
      _exit(static_cast<int>(error.code()));
    } catch (...) {
      _exit(1);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// The user nobody: root passes every permission check.
void become_nobody() {
  if (geteuid() != 0) return;
  if (setgroups(0, nullptr) != 0 || setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
}

TEST(FilesTest, WritesAndReadsAtOffsets) {
  const TemporaryFolder folder;
  File file = File::open(folder / "a", O_RDWR | O_CREAT);
  file.write_at("world", 5, 6);
  file.write_at("hello ", 6, 0);
  EXPECT_EQ(file.size_bytes(), 11);
  std::string text(5, '\0');
  file.read_at(text.data(), 5, 6);
  EXPECT_EQ(text, "world");
  file.read_at(nullptr, 0, 1000);  // nothing is always there
  file.sync();
  file.close();
  EXPECT_FALSE(file);
  EXPECT_EQ(read_text(folder / "a"), "hello world");
}

TEST(FilesTest, MovingHandsTheDescriptorOver) {
  const TemporaryFolder folder;
  File a = File::open(folder / "a", O_RDWR | O_CREAT);
  const int fd = a.fd();
  File b = std::move(a);
  EXPECT_FALSE(a);
  EXPECT_EQ(b.fd(), fd);
  EXPECT_EQ(b.path(), folder / "a");
  { const File gone = std::move(b); }
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(FilesTest, DescriptorsAreNotInherited) {
  const TemporaryFolder folder;
  const File file = File::open(folder / "a", O_RDWR | O_CREAT);
  EXPECT_TRUE(fcntl(file.fd(), F_GETFD) & FD_CLOEXEC);
}

TEST(FilesTest, AShortFileIsNamedWithThePlace) {
  const TemporaryFolder folder;
  write_text(folder / "a", "12345");
  const File file = File::open(folder / "a", O_RDONLY);
  char buffer[8];
  EXPECT_EQ(
      refusal(ExitCode::bad_data, [&] { file.read_at(buffer, 4, 3); }),
      (folder / "a") + ": shorter than expected: ends before byte 7; the file was truncated, restore it");
  EXPECT_NE(refusal(ExitCode::bad_data, [&] { file.read_at(buffer, 1, 5); }), "");
}

TEST(FilesTest, OpenSaysWhatIsMissing) {
  EXPECT_EQ(refusal(ExitCode::io, [] { File::open("/nonexistent/x", O_RDONLY); }),
            "/nonexistent/x: open: No such file or directory");
}

TEST(FilesTest, AllocateReservesAndNothingIsFine) {
  const TemporaryFolder folder;
  File file = File::open(folder / "a", O_RDWR | O_CREAT);
  file.allocate(0);
  EXPECT_EQ(file.size_bytes(), 0);
  file.allocate(1 << 20);
  struct stat info {};
  ASSERT_EQ(fstat(file.fd(), &info), 0);
  EXPECT_TRUE(info.st_size == 0 || info.st_blocks * 512 >= 1 << 20);  // 0: a file system without fallocate
}

TEST(FilesTest, ReadFileHasALimit) {
  const TemporaryFolder folder;
  write_text(folder / "a", "12345");
  EXPECT_EQ(read_file(folder / "a", 5), "12345");
  EXPECT_EQ(refusal(ExitCode::bad_data, [&] { read_file(folder / "a", 4); }),
            (folder / "a") + ": 5 bytes are more than the 4 such a file may have");
  write_text(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty", 0), "");
}

TEST(FilesTest, ReadFileAllocatesNothingForAHugeOne) {
  const TemporaryFolder folder;
  File file = File::open(folder / "sparse", O_RDWR | O_CREAT);
  ASSERT_EQ(ftruncate(file.fd(), int64_t{1} << 40), 0);
  EXPECT_NE(refusal(ExitCode::bad_data, [&] { read_file(folder / "sparse", 1 << 20); }), "");
}

TEST(FilesTest, ReadFileRefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(refusal(ExitCode::bad_data, [&] { read_file(folder.path(), 100); }),
            folder.path() + ": not a regular file");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);  // nobody writes: waiting would take forever
  EXPECT_EQ(refusal(ExitCode::bad_data, [&] { read_file(folder / "pipe", 100); }),
            (folder / "pipe") + ": not a regular file");
}

TEST(FilesTest, AtomicWriteReplacesAndLeavesNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  write_file_atomically(folder / "a", "new\0text");
  EXPECT_EQ(read_text(folder / "a"), "new");
  EXPECT_THAT(names_in(folder.path()), ElementsAre("a"));
}

TEST(FilesTest, AtomicWriteWorksInTheWorkingDirectory) {
  const TemporaryFolder folder;
  EXPECT_EQ(in_child([&] { DM_SYS(chdir(folder.path().c_str()), "chdir", folder.path()); },
                     [] { write_file_atomically("a", "x"); }),
            0);
  EXPECT_EQ(read_text(folder / "a"), "x");
}

TEST(FilesTest, AFailedAtomicWriteKeepsTheOldText) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  const auto limit_file_size = [] {
    const rlimit limit{1000, 1000};
    signal(SIGXFSZ, SIG_IGN);
    DM_SYS(setrlimit(RLIMIT_FSIZE, &limit), "setrlimit", "");
  };
  EXPECT_EQ(in_child(limit_file_size, [&] { write_file_atomically(folder / "a", std::string(2000, 'x')); }),
            static_cast<int>(ExitCode::io));
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_THAT(names_in(folder.path()), ElementsAre("a"));
}

TEST(FilesTest, OutOfDescriptorsIsAnIoError) {
  const TemporaryFolder folder;
  const auto few_descriptors = [] {
    const rlimit limit{3, 3};
    DM_SYS(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit", "");
  };
  EXPECT_EQ(in_child(few_descriptors, [&] { write_file_atomically(folder / "a", "x"); }),
            static_cast<int>(ExitCode::io));
}

TEST(FilesTest, AForbiddenDirectoryIsAPermissionError) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "closed");
  write_text(folder / "closed/a", "old");
  ASSERT_EQ(chmod((folder / "closed").c_str(), 0555), 0);
  ASSERT_EQ(chmod((folder / "closed/a").c_str(), 0400), 0);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  const int denied = static_cast<int>(ExitCode::permission);
  EXPECT_EQ(in_child(become_nobody, [&] { write_file_atomically(folder / "closed/a", "new"); }), denied);
  EXPECT_EQ(
      in_child(become_nobody, [&] { rename_without_replacing(folder / "closed/a", folder / "closed/b"); }),
      denied);
  ASSERT_EQ(chmod((folder / "closed/a").c_str(), 0), 0);
  EXPECT_EQ(in_child(become_nobody, [&] { read_file(folder / "closed/a", 100); }), denied);
  ASSERT_EQ(chmod((folder / "closed/a").c_str(), 0600), 0);
  ASSERT_EQ(chmod((folder / "closed").c_str(), 0755), 0);
  EXPECT_EQ(read_text(folder / "closed/a"), "old");
}

TEST(FilesTest, RenameNeverReplaces) {
  const TemporaryFolder folder;
  write_text(folder / "a", "1");
  write_text(folder / "b", "2");
  EXPECT_EQ(refusal(ExitCode::io, [&] { rename_without_replacing(folder / "a", folder / "b"); }),
            (folder / "b") + ": rename: File exists");
  EXPECT_EQ(read_text(folder / "a") + read_text(folder / "b"), "12");
  std::filesystem::create_directory(folder / "d");
  std::filesystem::create_directory(folder / "empty");
  EXPECT_NE(refusal(ExitCode::io, [&] { rename_without_replacing(folder / "d", folder / "empty"); }), "");
  rename_without_replacing(folder / "d", folder / "e");
  rename_without_replacing(folder / "a", folder / "c");
  EXPECT_THAT(names_in(folder.path()), ElementsAre("b", "c", "e", "empty"));
  EXPECT_EQ(refusal(ExitCode::io, [&] { rename_without_replacing(folder / "gone", folder / "x"); }),
            (folder / "x") + ": rename: No such file or directory");
}

TEST(FilesTest, SyncDirectoryWantsADirectory) {
  const TemporaryFolder folder;
  sync_directory(folder.path());
  write_text(folder / "a", "1");
  EXPECT_EQ(refusal(ExitCode::io, [&] { sync_directory(folder / "a"); }),
            (folder / "a") + ": open: Not a directory");
}

TEST(FilesTest, FreeBytesOfADirectory) {
  EXPECT_GT(free_bytes("/"), -1);
  EXPECT_EQ(refusal(ExitCode::io, [] { free_bytes("/nonexistent"); }),
            "/nonexistent: statvfs: No such file or directory");
}

}  // namespace
}  // namespace dm
