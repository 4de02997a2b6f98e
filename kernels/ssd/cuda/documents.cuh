#pragma once
// Where documents begin inside a tile of 64 tokens, as a bit mask: bit t is set where token t does not
// continue the document of the token before it (bit 0: the last token of the tile before). Tokens past the
// end of the row continue the last document.
//
// What is summed along a tile begins anew with each document, so that no value of one moves a rounding of
// another: documents packed into a row give the same bits whatever stands beside them.

#include <cstdint>

#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

/// Whether the state before token t of a row counts as zero.
__device__ inline bool begins_document(const SsdInputs& in, int64_t row, int64_t t) {
  const int32_t* const ids = in.seq_idx + row * in.shape.length;
  if (t == 0) return in.before != nullptr && in.before[row * in.before_stride] != ids[0];
  return ids[t] != ids[t - 1];
}

struct Documents {
  uint64_t begins;

  /// First token of t's document, 0 where it began before the tile.
  __device__ int first(int t) const { return 63 - __clzll(static_cast<int64_t>((begins & upto(t)) | 1)); }
  /// Last token of s's document, 63 where it goes on behind the tile.
  __device__ int last(int s) const {
    const uint64_t later = begins & ~upto(s);
    return later == 0 ? 63 : __ffsll(static_cast<int64_t>(later)) - 2;
  }
  /// The state before the tile reaches token t.
  __device__ bool from_before(int t) const { return (begins & upto(t)) == 0; }
  /// Token s reaches the state after the tile.
  __device__ bool to_after(int s) const { return (begins & ~upto(s)) == 0; }
  /// The state before the tile reaches the one after it.
  __device__ bool carries() const { return begins == 0; }

 private:
  static __device__ uint64_t upto(int t) { return (2ull << t) - 1; }
};

/// Of tokens 2 lane and 2 lane + 1, by a whole warp: the sum over the document's tokens in the tile up to and
/// including each.
__device__ inline float2 sum_since_begin(float2 pair, const Documents& documents, int lane) {
  const int t = 2 * lane, first = documents.first(t + 1);
  float sum = first > t ? pair.y : pair.x + pair.y;  // of tokens from max(first, t + 2 - 2 step) to t + 1
#pragma unroll
  for (int step = 1; step < 32; step <<= 1) {
    const float below = __shfl_up_sync(~0u, sum, step);
    if (t + 1 - 2 * step >= first) sum += below;
  }
  const float below = __shfl_up_sync(~0u, sum, 1);
  return {documents.first(t) == t ? pair.x : below + pair.x, sum};
}
/// The same over each token and the document's later ones in the tile.
__device__ inline float2 sum_until_end(float2 pair, const Documents& documents, int lane) {
  const int t = 2 * lane, last = documents.last(t);
  float sum = last == t ? pair.x : pair.x + pair.y;  // of tokens from t to min(last, t - 1 + 2 step)
#pragma unroll
  for (int step = 1; step < 32; step <<= 1) {
    const float above = __shfl_down_sync(~0u, sum, step);
    if (t + 2 * step <= last) sum += above;
  }
  const float above = __shfl_down_sync(~0u, sum, 1);
  return {sum, documents.last(t + 1) == t + 1 ? pair.y : above + pair.y};
}

}  // namespace dm::kernels::cuda
