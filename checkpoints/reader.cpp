// Loading: wanted boxes are cut out of the stored ones, chunk by chunk, each chunk checked before it is used.

#include <algorithm>
#include <cstring>
#include <map>

#include "checkpoints/boxes.h"
#include "checkpoints/chunks.h"
#include "checkpoints/directory.h"
#include "checkpoints/manifest.h"
#include "checkpoints/store.h"
#include "core/error.h"

namespace dm::checkpoints {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  return text(Box{std::vector<int64_t>(shape.size(), 0), shape});
}

const Manifest::Tensor& require_tensor(const Manifest& manifest, const Piece& wanted,
                                       const std::string& directory) {
  const Manifest::Tensor* tensor = manifest.find(wanted.name);
  DM_REQUIRE(tensor != nullptr, ExitCode::bad_data,
             "{}: holds no tensor '{}' (it has {}); it is a checkpoint of another model or optimizer",
             directory, wanted.name, manifest.tensors.size());
  DM_REQUIRE(tensor->dtype == wanted.dtype, ExitCode::bad_data, "{}: '{}' is stored as {}, wanted as {}",
             directory, wanted.name, name(tensor->dtype), name(wanted.dtype));
  DM_REQUIRE(tensor->global_shape == wanted.global_shape, ExitCode::bad_data,
             "{}: '{}' has the shape {}, wanted is {}; it is a checkpoint of another model", directory,
             wanted.name, shape_text(tensor->global_shape), shape_text(wanted.global_shape));
  return *tensor;
}

/// Copies what `stored` and `wanted` have in common.
void copy_common(const Manifest::StoredPiece& stored, const Box& common, const Piece& wanted,
                 ChunkReader& reader) {
  const int64_t element = size_bytes(wanted.dtype);
  auto* out = static_cast<std::byte*>(wanted.data);
  for_each_run(common, stored.box, wanted.box, [&](int64_t source, int64_t target, int64_t count) {
    int64_t from = source * element, to = target * element, left = count * element;
    while (left > 0) {  // a run may span chunks
      const auto bytes = reader.from(stored, from);
      const int64_t length = std::min<int64_t>(left, static_cast<int64_t>(bytes.size()));
      std::memcpy(out + to, bytes.data(), static_cast<size_t>(length));
      from += length, to += length, left -= length;
    }
  });
}

}  // namespace

void load(const std::string& directory, const std::vector<Piece>& wanted) {
  const Manifest manifest = read_manifest(directory);
  std::map<const Manifest::Tensor*, std::vector<const Piece*>>
      by_tensor;  // each stored chunk is read for all of its users
  for (const Piece& piece : wanted) {
    const Manifest::Tensor& tensor = require_tensor(manifest, piece, directory);
    DM_CHECK(piece.box.count() == 0 || lies_inside(piece.box, tensor.global_shape), "{}: wanted {} of {}",
             piece.name, text(piece.box), shape_text(tensor.global_shape));
    if (piece.box.count() > 0) by_tensor[&tensor].push_back(&piece);
  }
  ChunkReader reader(directory, manifest);
  for (const auto& [tensor, pieces] : by_tensor)
    for (const auto& stored : tensor->pieces)
      for (const Piece* piece : pieces)
        if (const auto common = intersect(stored.box, piece->box))
          copy_common(stored, *common, *piece, reader);
}

Summary read_summary(const std::string& directory) {
  Manifest manifest = read_manifest(directory);
  Summary summary{manifest.step, directory, std::move(manifest.meta), {}};
  for (auto& tensor : manifest.tensors)
    summary.tensors.push_back({std::move(tensor.name), tensor.dtype, std::move(tensor.global_shape)});
  return summary;
}

}  // namespace dm::checkpoints
