#pragma once
// What every kernel of the fast path does with one tile of 64 tokens of one head: decay factors, scaled
// copies, the state.

#include "kernels/ssd/cuda/decay.cuh"
#include "kernels/ssd/cuda/documents.cuh"
#include "kernels/ssd/cuda/params.h"
#include "kernels/ssd/cuda/thread.cuh"
#include "kernels/ssd/cuda/tile.cuh"
#include "kernels/ssd/cuda/tma.cuh"
#include "kernels/ssd/cuda/wgmma.cuh"

namespace dm::kernels::cuda {

constexpr int kWarpgroup = 128;
constexpr float kMinusInfinity = -__builtin_huge_valf();

/// Factor from the state before the tile to token t.
__device__ inline float decay_before(const DecayRecord& record, const Documents& documents, int t) {
  return documents.from_before(t) ? exp2_fast(record.sum[t]) : 0.f;
}
/// Factor from token t to the state after the tile.
__device__ inline float decay_after(const DecayRecord& record, const Documents& documents, int t) {
  return documents.to_after(t) ? exp2_fast(record.sum[kTile - 1] - record.sum[t]) : 0.f;
}
/// Factor from the state before to the state after.
__device__ inline float decay_through(const DecayRecord& record, const Documents& documents) {
  return documents.carries() ? exp2_fast(record.sum[kTile - 1]) : 0.f;
}

/// target[t] = factor(t) * source[t], rounded once; by the 128 threads of a warpgroup.
template <int kCols, typename Factor>
__device__ void scale_rows(char* target, const char* source, int thread, Factor factor) {
  using Layout = Tile<kTile, kCols>;
#pragma unroll
  for (int i = 0; i < kTile * Layout::kPieces; i += kWarpgroup) {
    const int row = (i + thread) / Layout::kPieces,
              at = Layout::offset(row, (i + thread) % Layout::kPieces * 8);
    uint4 piece = *reinterpret_cast<const uint4*>(source + at);
    const float f = factor(row);
    piece = {scale(piece.x, f), scale(piece.y, f), scale(piece.z, f), scale(piece.w, f)};
    *reinterpret_cast<uint4*>(target + at) = piece;
  }
}

/// Loads 64 tokens of kCols columns; `map` has boxes of Tile<64, kCols>'s blocks.
template <int kCols>
__device__ void load_tile(uint32_t target, const CUtensorMap& map, int column, int token, int row,
                          Mbarrier arrival) {
  using Layout = Tile<kTile, kCols>;
#pragma unroll
  for (int block = 0; block < kCols / Layout::kBlockCols; ++block)
    tma_load(target + block * Layout::kBlockBytes, map, column + block * Layout::kBlockCols, token, row,
             arrival);
}
/// The same of a group's columns of B or C, of which there may be fewer.
template <int kCols>
__device__ void load_states(uint32_t target, const CUtensorMap& map, const StateSlice& slice, int group,
                            int token, int row, Mbarrier arrival) {
  using Layout = Tile<kTile, kCols>;
#pragma unroll
  for (int block = 0; block < kCols / Layout::kBlockCols; ++block)
    tma_load(target + block * Layout::kBlockBytes, map, slice.begin + block * Layout::kBlockCols, group,
             token, row, arrival);
}
/// A tile of y or dx in global memory as the slices before have left it: their launches are complete, and no
/// other block stores there.
struct TileBefore {
  const bf16* first;  // of the head's columns
  int64_t stride;
  int valid;  // tokens

  /// From channels `column` and the next of a token.
  __device__ uint32_t pair(int token, int column) const {
    return token < valid ? *reinterpret_cast<const uint32_t*>(first + token * stride + column) : 0;
  }
};

/// A slice [N, P] of a state in the accumulators of a warpgroup: d[m] holds rows 64 m .. 64 m + 63 (wgmma.cuh
/// has the order). Rows that the slice does not have are zero and stay so.
template <int P, int N>
struct State {
  using Image = Tile<N, P>;
  float d[N / 64][P / 2];

  __device__ void scale(float factor) {
#pragma unroll
    for (auto& block : d)
#pragma unroll
      for (float& v : block) v *= factor;
    pin();
  }

  __device__ void pin() {
#pragma unroll
    for (auto& block : d) wgmma_pin(block);
  }

  /// The copy that the tensor cores read.
  __device__ void store_image(char* image, int thread) const {
    const int row = thread / 32 * 16 + thread % 32 / 4, col = thread % 4 * 2;
#pragma unroll
    for (int m = 0; m < N / 64; ++m)
#pragma unroll
      for (int j = 0; j < P / 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          *reinterpret_cast<uint32_t*>(image + Image::offset(64 * m + row + 8 * half, 8 * j + col)) =
              pack(d[m][4 * j + 2 * half], d[m][4 * j + 2 * half + 1]);
  }

  /// To and from float32 [P, `columns`] in global memory, of which the slice has a part; a null source is
  /// zero.
  __device__ void load(const float* source, const StateSlice& slice, int columns, int thread) {
    for_each(slice, columns, thread,
             [&](float& v, bool inside, int at) { v = source == nullptr || !inside ? 0.f : source[at]; });
  }
  __device__ void store(float* target, const StateSlice& slice, int columns, int thread) {
    for_each(slice, columns, thread, [&](float& v, bool inside, int at) {
      if (inside) target[at] = v;
    });
  }

 private:
  template <typename Function>
  __device__ void for_each(const StateSlice& slice, int columns, int thread, Function function) {
    const int row = thread / 32 * 16 + thread % 32 / 4, col = thread % 4 * 2;
#pragma unroll
    for (int m = 0; m < N / 64; ++m)
#pragma unroll
      for (int i = 0; i < P / 2; ++i) {
        const int n = 64 * m + row + i % 4 / 2 * 8;
        function(d[m][i], n < slice.count, (8 * (i / 4) + col + i % 2) * columns + slice.begin + n);
      }
  }
};

/// Of a saved state: an image (tile.cuh) has one block of columns, so that a slice's rows are its begin.
template <int P>
__device__ int image_bytes(const StateSlice& slice) {
  static_assert(P <= 64);
  return slice.count * P * int{sizeof(bf16)};
}
/// Where the saved state before a tile stands, in bytes from the slice's first.
template <int P>
__device__ int64_t image_offset(const SsdShape& shape, const StateSlice& slice, int64_t row, int64_t tile,
                                int64_t head) {
  return ((row * tiles_of(shape.length) + tile) * shape.heads + head) * image_bytes<P>(slice);
}

/// The dynamic shared memory from the first multiple of 1024 on, which the swizzled layouts need.
struct Shared {
  char* base;
  uint32_t address;

  static __device__ Shared aligned(char* memory) {
    const uint32_t start = static_cast<uint32_t>(__cvta_generic_to_shared(memory)),
                   skip = (1024 - start % 1024) % 1024;
    return {memory + skip, start + skip};
  }
};

}  // namespace dm::kernels::cuda
