#pragma once
// The threads of a block of the decoding chain.

#include <cstdint>

#include "kernels/device/sums.cuh"

namespace dm::kernels::cuda {

/// The warps that compute. Sixteen, because what a token waits for is a chain of dependent instructions: four
/// warps a scheduler fill each other's gaps. Behind them one warp sends for memory, and one fetches small
/// vectors into the cache.
constexpr int kDecodeWarps = 16, kDecodeThreads = 32 * kDecodeWarps,
              kDecodeBlockThreads = kDecodeThreads + 64;

/// Among the computing warps of the block.
__device__ inline void decode_sync() { asm volatile("bar.sync 1, %0;" ::"n"(kDecodeThreads) : "memory"); }

/// n / d for 0 <= n < kMostDivided, d > 0, in a quarter of an integer division's instructions: the half keeps
/// what single precision leaves of the quotient away from its borders.
constexpr int kMostDivided = 1 << 21;
__device__ inline int quotient(int n, int d) {
  return static_cast<int>(__fdividef(static_cast<float>(n) + 0.5f, static_cast<float>(d)));
}

/// The threads that take one row of up to eight together, a power of two.
struct RowTeam {
  int shift, threads, row, lane;
  __device__ explicit RowTeam(int rows) {
    static_assert(kDecodeThreads == 512);
    shift = rows <= 1 ? 9 : rows <= 2 ? 8 : rows <= 4 ? 7 : 6;
    threads = 1 << shift;
    row = static_cast<int>(threadIdx.x) >> shift, lane = static_cast<int>(threadIdx.x) & (threads - 1);
  }
  /// The sums over the team, in all of its threads, in a fixed order; one decode_sync() inside. `slots` is
  /// free again after the next.
  __device__ float4 sum(float4 v, float4 (&slots)[kDecodeWarps]) const {
    v = sum_lanes(v, 32);
    const int warps = threads / 32;
    if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = v;
    decode_sync();
    return sum_lanes(slots[row * warps + (static_cast<int>(threadIdx.x) & (warps - 1))], warps);
  }

 private:
  static __device__ float4 sum_lanes(float4 v, int lanes) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
      if (step >= lanes) continue;
      v.x += __shfl_xor_sync(~0u, v.x, step), v.y += __shfl_xor_sync(~0u, v.y, step);
      v.z += __shfl_xor_sync(~0u, v.z, step), v.w += __shfl_xor_sync(~0u, v.w, step);
    }
    return v;
  }
};

}  // namespace dm::kernels::cuda
