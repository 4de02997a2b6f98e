#pragma once
// Where documents begin inside a tile of 64 tokens, as a bit mask: bit t is set where token t does not continue the
// document of the token before it (bit 0: the last token of the tile before; never set at the start of a row, whose
// initial state belongs to its first document). Tokens past the end of the row continue the last document.

#include <cstdint>

namespace dm::kernels::cuda {

constexpr int kTile = 64;
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMinusInfinity = -__builtin_huge_valf();

struct Documents {
  uint64_t begins;

  /// `ids` holds 65 of them, from the token before the tile on.
  static __device__ Documents of(const int32_t* ids, int lane) {
    const uint32_t low = __ballot_sync(~0u, ids[lane] != ids[lane + 1]);
    const uint32_t high = __ballot_sync(~0u, ids[lane + 32] != ids[lane + 33]);
    return {uint64_t(high) << 32 | low};
  }

  /// First token of t's document, 0 where it began before the tile.
  __device__ int first(int t) const { return 63 - __clzll(int64_t(begins & upto(t) | 1)); }
  /// Last token of s's document, 63 where it goes on behind the tile.
  __device__ int last(int s) const {
    const uint64_t later = begins & ~upto(s);
    return later == 0 ? 63 : __ffsll(int64_t(later)) - 2;
  }
  /// The state before the tile reaches token t.
  __device__ bool from_before(int t) const { return (begins & upto(t)) == 0; }
  /// Token s reaches the state after the tile.
  __device__ bool to_after(int s) const { return (begins & ~upto(s)) == 0; }
  __device__ bool carries() const { return begins == 0; }

 private:
  static __device__ uint64_t upto(int t) { return (2ull << t) - 1; }
};

/// Which of the 65 ids of a tile stands for: token `index - 1` of the tile, clamped to the row.
__device__ inline int64_t id_token(int64_t tile_begin, int index, int64_t length) {
  const int64_t token = tile_begin + index - 1;
  return token < 0 ? 0 : token < length ? token : length - 1;
}

}  // namespace dm::kernels::cuda
