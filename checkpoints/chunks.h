#pragma once
// Chunks of stored pieces: kChunkBytes hashed together, the last one of a piece shorter.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoints/manifest.h"
#include "core/files.h"

namespace dm::checkpoints {

/// Reads chunks of one directory and checks each against its hash. Keeps one chunk in memory and a few files
/// open.
class ChunkReader {
 public:
  ChunkReader(std::string directory, const Manifest& manifest);

  /// The stored bytes of the piece from this offset to the end of its chunk; valid until the next call.
  /// Throws ExitCode::bad_data, with file and offset, when the hash does not fit.
  std::span<const std::byte> from(const Manifest::StoredPiece& piece, int64_t offset_bytes);

  /// The file with this number in the manifest, opened at the latest now.
  const File& open(int64_t file);

 private:
  std::string directory_;
  const Manifest& manifest_;
  std::map<int64_t, File> open_;
  const Manifest::StoredPiece* piece_ = nullptr;  // whose chunk is in the buffer
  int64_t chunk_ = -1;
  std::vector<std::byte> buffer_;
};

}  // namespace dm::checkpoints
