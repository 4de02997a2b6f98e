#pragma once
// The threads of a block of the decoding chain.

#include <cstdint>

#include "kernels/device/sums.cuh"

namespace dm::kernels::cuda {

/// The warps that compute; one more sends for memory.
constexpr int kDecodeWarps = 8, kDecodeThreads = 32 * kDecodeWarps;

/// Among the computing warps of the block.
__device__ inline void decode_sync() { asm volatile("bar.sync 1, %0;" ::"n"(kDecodeThreads) : "memory"); }

/// The threads that take one row of up to eight together.
struct RowTeam {
  int row, lane, threads;
  __device__ explicit RowTeam(int rows) {
    threads = rows <= 1   ? kDecodeThreads
              : rows <= 2 ? kDecodeThreads / 2
              : rows <= 4 ? kDecodeThreads / 4
                          : 32;
    row = static_cast<int>(threadIdx.x) / threads, lane = static_cast<int>(threadIdx.x) % threads;
  }
  /// The sum over the team, in all of its threads, in a fixed order; one decode_sync() inside. `slots` is
  /// free again after the next.
  __device__ float sum(float v, float (&slots)[kDecodeWarps]) const {
    v = warp_sum(v);
    const int warps = threads / 32;
    if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = v;
    decode_sync();
    return lane_sum(slots[row * warps + static_cast<int>(threadIdx.x) % warps], warps);
  }
};

}  // namespace dm::kernels::cuda
