#pragma once
// Appends to a file from an offset on and hashes what it writes block by block: how payloads of shards are
// made.

#include <cstdint>
#include <vector>

#include "core/files.h"

namespace dm::data {

class BlockStream {
 public:
  BlockStream(File file, int64_t offset_bytes, int64_t block_bytes);

  void append(const void* bytes, size_t size_bytes);
  int64_t size_bytes() const { return size_bytes_; }

  /// Writes what is buffered and closes the file. Returns XXH3-64 of each block; the last block may be
  /// shorter.
  std::vector<uint64_t> finish();

 private:
  void flush();

  File file_;
  int64_t offset_bytes_;
  int64_t block_bytes_;
  int64_t size_bytes_ = 0;
  std::vector<char> buffer_;  // whole blocks, the last one in the making
  size_t filled_ = 0;
  std::vector<uint64_t> hashes_;
};

}  // namespace dm::data
