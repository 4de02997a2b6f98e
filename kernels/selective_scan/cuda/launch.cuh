#pragma once
// How the work is cut.

#include <algorithm>

#include "kernels/selective_scan/cuda/scan.cuh"

namespace dm::kernels::cuda {

/// Four lanes a channel suffice.
inline bool narrow(const SelectiveShape& shape) { return shape.states <= Narrow::kWidth; }

/// Calls function.operator()<Lanes>().
template <class Function>
cudaError_t for_lanes(const SelectiveShape& shape, Function function) {
  static_assert(kSelectiveMostStates == Widest::kWidth);
  if (narrow(shape)) return function.template operator()<Narrow>();
  if (shape.states <= Wide::kWidth) return function.template operator()<Wide>();
  return function.template operator()<Widest>();
}

inline dim3 grid_of(const SelectiveShape& shape, const Segments& segments, int64_t channels) {
  return dim3(static_cast<unsigned>((shape.channels + channels - 1) / channels),
              static_cast<unsigned>(shape.rows), static_cast<unsigned>(segments.count));
}

/// Depends on the shape alone, so that the bits do not depend on the device. Segments cost the exponentials a
/// second time, so they are made only where less than half of an H100 would have work: 32 channels are a
/// block of four warps, and two such blocks a multiprocessor are enough.
inline Segments cut_segments(const SelectiveShape& shape, void* workspace) {
  constexpr int64_t kShortest = 256, kEnough = 128, kWanted = 264;
  const int64_t channels = narrow(shape) ? 32 : 4;
  const int64_t blocks = (shape.channels + channels - 1) / channels * shape.rows;
  const int64_t most = std::max<int64_t>(shape.length / kShortest, 1);
  int64_t count = blocks >= kEnough ? 1 : std::min((kWanted + blocks - 1) / blocks, most);
  const int64_t each = (shape.length + count - 1) / count;
  const int64_t tokens = (each + kSavedTokens - 1) / kSavedTokens * kSavedTokens;
  count = (shape.length + tokens - 1) / tokens;
  float* const states = count > 1 ? static_cast<float*>(workspace) : nullptr;
  return {count, tokens, states,
          count > 1 ? states + shape.rows * count * shape.channels * shape.states : nullptr};
}

inline int64_t segment_bytes(const SelectiveShape& shape) {
  const int64_t count = cut_segments(shape, nullptr).count;
  return count == 1 ? 0 : shape.rows * count * shape.channels * (shape.states + 1) * int64_t{sizeof(float)};
}

}  // namespace dm::kernels::cuda
