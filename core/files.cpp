#include "core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "core/error.h"

namespace dm {

File File::open(const std::string& path, int flags, int mode) {
  int fd = -1;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  DM_SYS(fd, "open", path);
  return File(fd, path);
}

File::File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

int64_t File::size_bytes() const {
  struct stat info {};
  DM_SYS(fstat(fd_, &info), "fstat", path_);
  return info.st_size;
}

void File::read_at(void* data, size_t size_bytes, int64_t offset) const {
  char* to = static_cast<char*>(data);
  while (size_bytes > 0) {
    const ssize_t got = pread(fd_, to, size_bytes, offset);
    if (got < 0 && errno == EINTR) continue;
    DM_SYS(got, "read", path_);
    DM_REQUIRE(got > 0, ExitCode::bad_data,
               "{}: shorter than expected: ends before byte {}; the file was truncated, restore it", path_,
               offset + static_cast<int64_t>(size_bytes));
    to += got, offset += got, size_bytes -= static_cast<size_t>(got);
  }
}

void File::write_at(const void* data, size_t size_bytes, int64_t offset) {
  const char* from = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t put = pwrite(fd_, from, size_bytes, offset);
    if (put < 0 && errno == EINTR) continue;
    DM_SYS(put, "write", path_);
    if (put == 0) throw_errno(ENOSPC, "write", path_, __FILE__, __LINE__);  // some file systems say it so
    from += put, offset += put, size_bytes -= static_cast<size_t>(put);
  }
}

void File::allocate(int64_t size_bytes) {
  if (size_bytes == 0) return;  // EINVAL otherwise
  int result = 0;
  do result = fallocate(fd_, 0, 0, size_bytes);
  while (result < 0 && errno == EINTR);
  if (result < 0 && errno == EOPNOTSUPP) return;
  DM_SYS(result, "allocate", path_);
}

void File::sync() { DM_SYS(fsync(fd_), "fsync", path_); }

void File::forget_cached() const { posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

void File::close() {
  const int fd = std::exchange(fd_, -1);
  if (fd >= 0) DM_SYS(::close(fd), "close", path_);
}

std::string read_file(const std::string& path, int64_t limit_bytes) {
  const File file = File::open(path, O_RDONLY | O_NONBLOCK);  // a pipe is refused below, not waited for
  struct stat info {};
  DM_SYS(fstat(file.fd(), &info), "fstat", path);
  DM_REQUIRE(S_ISREG(info.st_mode), ExitCode::bad_data, "{}: not a regular file", path);
  DM_REQUIRE(info.st_size <= limit_bytes, ExitCode::bad_data,
             "{}: {} bytes are more than the {} such a file may have", path,
             static_cast<int64_t>(info.st_size), limit_bytes);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  file.read_at(text.data(), text.size(), 0);
  return text;
}

void write_file_atomically(const std::string& path, std::string_view content) {
  const std::string temporary = fmt::format("{}.tmp-{}", path, getpid());
  try {
    File file = File::open(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    file.write_at(content.data(), content.size(), 0);
    file.sync();
    file.close();
    DM_SYS(std::rename(temporary.c_str(), path.c_str()), "rename", path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  const auto parent = std::filesystem::path(path).parent_path();
  sync_directory(parent.empty() ? "." : parent.string());
}

void sync_directory(const std::string& path) {
  File directory = File::open(path, O_RDONLY | O_DIRECTORY);
  directory.sync();
}

void rename_without_replacing(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EINVAL || errno == ENOSYS) {
    struct stat info {};
    if (lstat(to.c_str(), &info) == 0) throw_errno(EEXIST, "rename", to, __FILE__, __LINE__);
    DM_SYS(std::rename(from.c_str(), to.c_str()), "rename", to);
    return;
  }
  throw_errno(errno, "rename", to, __FILE__, __LINE__);
}

int64_t free_bytes(const std::string& directory) {
  struct statvfs info {};
  DM_SYS(statvfs(directory.c_str(), &info), "statvfs", directory);
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

}  // namespace dm
