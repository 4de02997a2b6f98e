#pragma once
// Sums over threads, always in the same order.

#include <cstdint>

namespace dm::kernels::cuda {

/// Sum over aligned groups of `lanes` threads of a warp, a power of two.
__device__ inline float lane_sum(float v, int lanes) {
  for (int step = lanes / 2; step > 0; step >>= 1) v += __shfl_xor_sync(~0u, v, step);
  return v;
}
__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(~0u, v, step);
  return v;
}

/// A place in shared memory for one sum over the thread block, a value a warp.
struct alignas(16) BlockSlots {
  float parts[32];
};

/// The sum over a block of whole warps, in every thread, by one barrier. The slots are free again after the
/// block's next barrier.
__device__ inline float block_sum(float v, BlockSlots& slots) {
  const int warps = blockDim.x / 32;
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) slots.parts[threadIdx.x / 32] = v;
  // The last group of four is filled up by the last warp.
  if (threadIdx.x / 32 == warps - 1 && threadIdx.x % 32 >= warps) slots.parts[threadIdx.x % 32] = 0.f;
  __syncthreads();
  float sum = 0.f;
  for (int i = 0; i < warps; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(slots.parts + i);
    sum += (four.x + four.y) + (four.z + four.w);
  }
  return sum;
}

}  // namespace dm::kernels::cuda
