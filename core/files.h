#pragma once
// POSIX files: owned descriptors, whole reads and writes, durable and atomic replacement.
// Every function throws Error with the path, the operation and errno's text (ExitCode::io or ::permission).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace dm {

/// An owned file descriptor.
class File {
 public:
  File() = default;
  /// open(2) with O_CLOEXEC; `mode` as in 0644 for files it creates.
  static File open(const std::string& path, int flags, int mode = 0644);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  explicit operator bool() const { return fd_ >= 0; }

  int64_t size_bytes() const;
  /// Reads exactly size_bytes at offset; a file that ends earlier is ExitCode::bad_data ("shorter than
  /// expected").
  void read_at(void* data, size_t size_bytes, int64_t offset) const;
  /// Writes all of it, through short writes and EINTR.
  void write_at(const void* data, size_t size_bytes, int64_t offset);
  /// Reserves blocks so that later writes cannot run out of space; a no-op where the file system lacks
  /// fallocate.
  void allocate(int64_t size_bytes);
  void sync();
  /// Asks the kernel to drop its copy of what has been synced, so that the next read comes from the device.
  void forget_cached() const;
  /// close(2) with its error reported, unlike the destructor.
  void close();

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
};

/// The whole file; refuses one larger than limit_bytes (ExitCode::bad_data), before allocating.
std::string read_file(const std::string& path, int64_t limit_bytes);
/// Writes PATH through PATH.tmp-<pid>: write, fsync, rename, fsync of the directory. Readers see the old or
/// the new text.
void write_file_atomically(const std::string& path, std::string_view content);
/// Makes the entries of a directory durable.
void sync_directory(const std::string& path);
/// renameat2(RENAME_NOREPLACE); where the file system lacks it, a check and a plain rename (the caller holds
/// the lock).
void rename_without_replacing(const std::string& from, const std::string& to);
/// Bytes a non-root user may still write there.
int64_t free_bytes(const std::string& directory);

}  // namespace dm
