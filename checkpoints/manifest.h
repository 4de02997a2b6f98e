#pragma once
// manifest.json: what a committed directory holds, where each piece lies and how its bytes hash.
// docs/formats.md describes every field; nothing in here has touched a payload.

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoints/state.h"
#include "core/hash.h"
#include "core/json.h"

namespace dm::checkpoints {

inline constexpr const char* kFormat = "diffmamba checkpoint";
inline constexpr int64_t kFormatVersion = 1;
inline constexpr int64_t kChunkBytes = 16 << 20;  // of a piece, hashed together
inline constexpr int64_t kMaxManifestBytes = 64 << 20;

struct Manifest {
  struct File {
    std::string name;
    int64_t size_bytes = 0;
    Hash128 metadata;  // of all bytes that belong to no piece
  };
  struct StoredPiece {
    int64_t file = 0;
    std::string dataset;
    int64_t offset_bytes = 0;
    Box box;
    int64_t size_bytes = 0;        // of the box; not in the file, where dtype and shape say it
    std::vector<uint64_t> chunks;  // XXH3-64 of each kChunkBytes, the last one shorter
  };
  struct Tensor {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> global_shape;
    std::vector<StoredPiece> pieces;  // ascending by the boxes' offsets; together each element once
  };

  int64_t step = 0;
  std::vector<File> files;
  std::vector<Tensor> tensors;  // ascending by name
  Json meta;

  /// nullptr when absent.
  const Tensor* find(const std::string& name) const;
};

/// The bytes of manifest.json: one line a file and a tensor. Refuses (internal) a meta with NaN or infinity,
/// which JSON cannot hold.
std::string to_text(const Manifest& manifest);

/// Throws ExitCode::bad_data, `where` named, unless the text is such a manifest and holds together: every key
/// known and present, names as names.h builds them, every tensor covered exactly once, no byte of a file
/// claimed twice.
Manifest parse_manifest(const std::string& text, const std::string& where);

/// Reads and checks DIRECTORY/COMMIT and DIRECTORY/manifest.json. A directory named step_N must hold step N.
Manifest read_manifest(const std::string& directory);

/// The line of COMMIT for these manifest bytes: "<XXH3-128>  manifest.json", which `xxhsum -c COMMIT` checks
/// too.
std::string commit_line(const std::string& manifest_text);

}  // namespace dm::checkpoints
