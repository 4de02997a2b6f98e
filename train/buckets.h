#pragma once
// How the parameters of a rank lie in flat buffers and which stretches of these travel as one: a pure
// function of their sizes, so that a plan needs no memory for it. train/flat_parameters.h has the picture.

#include <cstdint>
#include <utility>
#include <vector>

#include "model/local_parameters.h"

namespace dm::train {

/// A stretch of the flat buffers: whole parameters of neighbouring layers, and padding.
struct Bucket {
  int64_t begin = 0;     // in the flat buffers
  int64_t piece = 0;     // elements that each rank owns of it
  int64_t owned = 0;     // where they stand in the owned array
  int64_t depth = 0;     // the smallest of its parameters
  int64_t gradient = 0;  // where its gradients begin in their buffer
};

/// Layers are gathered into one bucket until it holds so much.
inline constexpr int64_t kBucketBytes = int64_t{64} << 20;

struct FlatLayout {
  std::vector<int64_t> offsets;  // of each parameter in the flat buffers
  std::vector<Bucket> buckets;
  int64_t flat_count = 0, owned_count = 0;
  int64_t gradient_count = 0;  // elements of the buffer of gradients
  int64_t widest_piece() const;
};

/// Of `parameters`, in forward order, with elements of so many bytes, owned by `ranks` together. Gradients
/// lie as weights do; scattered, the first bucket's by themselves and the others' in three places in turn
/// (train/scattered_gradients.h).
FlatLayout flat_layout(const std::vector<model::LocalParameter>& parameters, int64_t element_bytes,
                       int64_t ranks, int64_t bucket_bytes = kBucketBytes, bool scattered = false);

/// The depths [begin, end) of each bucket's parameters.
std::vector<std::pair<int64_t, int64_t>> depths(const std::vector<Bucket>& buckets);

/// Passes over so many rows, `micro_batch` at a time; the same on the rank that has most of `rows`.
inline int64_t passes(int64_t rows, int64_t micro_batch) { return (rows + micro_batch - 1) / micro_batch; }
int64_t most_passes(int64_t rows, int64_t data_ranks, int64_t micro_batch);

/// Whether gradients are scattered at ZeRO stage `zero` over so many ranks: alone a rank owns them all.
inline bool scatters(int64_t zero, int64_t ranks) { return zero == 2 && ranks > 1; }

}  // namespace dm::train
