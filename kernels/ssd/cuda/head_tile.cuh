#pragma once
// What every kernel of the scan does with one tile of 64 tokens of one head: loads, decays, scaled copies.

#include "kernels/ssd/cuda/documents.cuh"
#include "kernels/ssd/cuda/params.h"
#include "kernels/ssd/cuda/thread.cuh"
#include "kernels/ssd/cuda/tile.cuh"

namespace dm::kernels::cuda {

constexpr int kWarpgroup = 128;

/// Starts copying 64 rows of kCols elements, `stride` apart, into a tile; zeros from row `valid` on.
template <int kCols>
__device__ void load_tile(uint32_t tile, const bf16* source, int64_t stride, int valid, int thread, int threads) {
  using Layout = Tile<kTile, kCols>;
  for (int i = thread; i < kTile * Layout::kPieces; i += threads) {
    const int row = i / Layout::kPieces, col = i % Layout::kPieces * 8;
    copy16(tile + Layout::offset(row, col), source + (row < valid ? row : 0) * stride + col, row < valid);
  }
}

/// Starts copying the image of a saved state.
__device__ inline void load_image(uint32_t target, const char* source, int bytes, int thread, int threads) {
  for (int i = thread * 16; i < bytes; i += threads * 16) copy16(target + i, source + i, true);
}

/// Sums of log2 of the decay, from the tile's begin up to and including each token. Every warp that needs them makes
/// its own: cheaper than a barrier. Lane l has tokens 2 l and 2 l + 1.
struct Decay {
  float2 dt, sum;
  float total;

  static __device__ Decay of(const float* dt, float a_log2, int lane) {
    Decay decay;
    decay.dt = reinterpret_cast<const float2*>(dt)[lane];
    decay.sum = inclusive_sum({decay.dt.x * a_log2, decay.dt.y * a_log2}, lane);
    decay.total = __shfl_sync(~0u, decay.sum.y, 31);
    return decay;
  }

  /// Factor from the state before the tile to each token.
  __device__ float2 from_before(const Documents& documents, int lane) const {
    return {documents.from_before(2 * lane) ? exp2_fast(sum.x) : 0.f,
            documents.from_before(2 * lane + 1) ? exp2_fast(sum.y) : 0.f};
  }
  /// Factor from each token to the state after the tile.
  __device__ float2 to_after(const Documents& documents, int lane) const {
    return {documents.to_after(2 * lane) ? exp2_fast(total - sum.x) : 0.f,
            documents.to_after(2 * lane + 1) ? exp2_fast(total - sum.y) : 0.f};
  }
  /// Factor from the state before to the state after.
  __device__ float carry(const Documents& documents) const { return documents.carries() ? exp2_fast(total) : 0.f; }
};

/// target[row] = factor[row] * source[row], one rounding; by the 128 threads of a warpgroup.
template <int kCols>
__device__ void scale_rows(char* target, const char* source, const float* factor, int thread) {
  using Layout = Tile<kTile, kCols>;
  for (int i = thread; i < kTile * Layout::kPieces; i += kWarpgroup) {
    const int row = i / Layout::kPieces, at = Layout::offset(row, i % Layout::kPieces * 8);
    uint4 piece = *reinterpret_cast<const uint4*>(source + at);
    const float f = factor[row];
    piece = {scale(piece.x, f), scale(piece.y, f), scale(piece.z, f), scale(piece.w, f)};
    *reinterpret_cast<uint4*>(target + at) = piece;
  }
}

/// A state [N, P] in the accumulators of a warpgroup: d[m] holds rows 64 m .. 64 m + 63 (wgmma.cuh has the order).
template <int P, int N>
struct State {
  using Image = Tile<N, P>;
  float d[N / 64][P / 2];

  __device__ void scale(float factor) {
    for (auto& block : d)
      for (float& v : block) v *= factor;
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

  /// To and from [P, N] float32 in global memory; a null source is zero.
  __device__ void load(const float* source, int thread) {
    for_each(thread, [&](float& v, int64_t at) { v = source == nullptr ? 0.f : source[at]; });
  }
  __device__ void store(float* target, int thread) {
    for_each(thread, [&](float& v, int64_t at) { target[at] = v; });
  }

 private:
  template <typename Function>
  __device__ void for_each(int thread, Function function) {
    const int row = thread / 32 * 16 + thread % 32 / 4, col = thread % 4 * 2;
#pragma unroll
    for (int m = 0; m < N / 64; ++m)
#pragma unroll
      for (int i = 0; i < P / 2; ++i)
        function(d[m][i], int64_t(8 * (i / 4) + col + i % 2) * N + 64 * m + row + i % 4 / 2 * 8);
  }
};

/// Copies an image to global memory by the 128 threads of a warpgroup.
__device__ inline void save_image(char* target, const char* image, int bytes, int thread) {
  for (int i = thread * 16; i < bytes; i += kWarpgroup * 16)
    *reinterpret_cast<uint4*>(target + i) = *reinterpret_cast<const uint4*>(image + i);
}

__host__ __device__ constexpr int64_t tiles_of(int64_t length) { return (length + kTile - 1) / kTile; }

/// Where the saved state before a tile stands.
template <int P, int N>
__device__ int64_t image_offset(const SsdShape& shape, int64_t row, int64_t tile, int64_t head) {
  return ((row * tiles_of(shape.length) + tile) * shape.heads + head) * int64_t(sizeof(bf16) * P * N);
}

}  // namespace dm::kernels::cuda
