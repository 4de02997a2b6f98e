#include "checkpoints/chunks.h"

#include <algorithm>

#include "checkpoints/directory.h"
#include "core/error.h"
#include "core/progress.h"

namespace dm::checkpoints {

ChunkReader::ChunkReader(std::string directory, const Manifest& manifest)
    : directory_(std::move(directory)), manifest_(manifest) {}

const File& ChunkReader::open(int64_t file) {
  constexpr size_t kMaxOpen = 64;
  const auto found = open_.find(file);
  if (found != open_.end()) return found->second;
  if (open_.size() == kMaxOpen) open_.clear();
  const Manifest::File& named = manifest_.files[static_cast<size_t>(file)];
  return open_.emplace(file, open_regular(directory_ + "/" + named.name, named.size_bytes)).first->second;
}

std::span<const std::byte> ChunkReader::from(const Manifest::StoredPiece& piece, int64_t offset_bytes) {
  const int64_t chunk = offset_bytes / kChunkBytes;
  if (piece_ != &piece || chunk_ != chunk) {
    const int64_t begin = chunk * kChunkBytes;
    const int64_t size = std::min(kChunkBytes, piece.size_bytes - begin);
    piece_ = nullptr;  // the buffer holds nothing while it is filled
    buffer_.resize(static_cast<size_t>(size));
    const File& source = open(piece.file);
    source.read_at(buffer_.data(), buffer_.size(), piece.offset_bytes + begin);
    const uint64_t found = xxh3_64(buffer_.data(), buffer_.size()),
                   stored = piece.chunks[static_cast<size_t>(chunk)];
    DM_REQUIRE(found == stored, ExitCode::bad_data,
               "{}: {} bytes at {} ({}) do not fit their hash (XXH3-64 {}, manifest {}): damaged; restore "
               "the file or use another checkpoint",
               source.path(), size, piece.offset_bytes + begin, piece.dataset, hex(found), hex(stored));
    piece_ = &piece;
    chunk_ = chunk;
    made_progress();
  }
  return std::span(buffer_).subspan(static_cast<size_t>(offset_bytes - chunk * kChunkBytes));
}

}  // namespace dm::checkpoints
