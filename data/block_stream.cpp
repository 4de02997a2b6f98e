#include "data/block_stream.h"

#include <algorithm>
#include <cstring>

#include "core/hash.h"

namespace dm::data {
namespace {
constexpr int64_t kBufferBytes = 1 << 20;
}

BlockStream::BlockStream(File file, int64_t offset_bytes, int64_t block_bytes)
    : file_(std::move(file)),
      offset_bytes_(offset_bytes),
      block_bytes_(block_bytes),
      buffer_(static_cast<size_t>(std::max<int64_t>(1, kBufferBytes / block_bytes) * block_bytes)) {}

void BlockStream::append(const void* bytes, size_t size_bytes) {
  const char* from = static_cast<const char*>(bytes);
  size_bytes_ += static_cast<int64_t>(size_bytes);
  while (size_bytes > 0) {
    const size_t step = std::min(size_bytes, buffer_.size() - filled_);
    std::memcpy(buffer_.data() + filled_, from, step);
    filled_ += step, from += step, size_bytes -= step;
    if (filled_ == buffer_.size()) flush();
  }
}

void BlockStream::flush() {
  const auto block = static_cast<size_t>(block_bytes_);
  for (size_t at = 0; at < filled_; at += block)
    hashes_.push_back(xxh3_64(buffer_.data() + at, std::min(block, filled_ - at)));
  file_.write_at(buffer_.data(), filled_, offset_bytes_);
  offset_bytes_ += static_cast<int64_t>(filled_);
  filled_ = 0;
}

std::vector<uint64_t> BlockStream::finish() {
  flush();
  file_.close();
  return std::move(hashes_);
}

}  // namespace dm::data
