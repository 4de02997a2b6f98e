#pragma once
// The bytes of an input, one after the other: a file, a pipe, or `-` for standard input; gzip and zstd are
// unpacked.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace dm::data {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to size_bytes of the unpacked input; 0 at its end. Throws ExitCode::bad_data naming the input when an
  /// archive is damaged or cut off, and ExitCode::interrupted once stop_requested() (within a fifth of a
  /// second, also when a pipe is silent).
  virtual size_t read(char* to, size_t size_bytes) = 0;
  /// Bytes taken from the file itself so far, packed as they are: for the progress line.
  virtual int64_t consumed_bytes() const = 0;
};

/// How an input is packed is told by its first bytes. A name that ends in .gz or .zst over other bytes is
/// refused.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

/// Throws ExitCode::interrupted when a signal has asked to stop.
void stop_if_asked();

}  // namespace dm::data
