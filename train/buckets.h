#pragma once
// How the parameters of a rank lie in flat buffers and which stretches of these travel as one: a pure
// function of their sizes, so that a plan needs no memory for it. train/flat_parameters.h has the picture.

#include <cstdint>
#include <vector>

#include "model/local_parameters.h"

namespace dm::train {

/// A stretch of the flat buffers: whole parameters of neighbouring layers, and padding.
struct Bucket {
  int64_t begin = 0;  // in the flat buffers
  int64_t piece = 0;  // elements that each rank owns of it
  int64_t owned = 0;  // where they stand in the owned array
  int64_t depth = 0;  // the smallest of its parameters
};

/// Layers are gathered into one bucket until it holds so much.
inline constexpr int64_t kBucketBytes = int64_t{64} << 20;

struct FlatLayout {
  std::vector<int64_t> offsets;  // of each parameter in the flat buffers
  std::vector<Bucket> buckets;
  int64_t flat_count = 0, owned_count = 0;
};

/// Of `parameters`, in forward order, with elements of so many bytes, owned by `ranks` together.
FlatLayout flat_layout(const std::vector<model::LocalParameter>& parameters, int64_t element_bytes,
                       int64_t ranks, int64_t bucket_bytes = kBucketBytes);

}  // namespace dm::train
