#pragma once
// Where documents begin inside a tile of 64 tokens, as a bit mask: bit t is set where token t does not
// continue the document of the token before it (bit 0: the last token of the tile before). Tokens past the
// end of the row continue the last document.

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

}  // namespace dm::kernels::cuda
