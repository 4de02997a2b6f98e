#pragma once
// Small device functions: conversions, barriers, sums over a warp.

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/device/elements.cuh"
#include "kernels/device/sums.cuh"

namespace dm::kernels::cuda {

__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}
__device__ inline float low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ inline uint32_t scale(uint32_t pair, float factor) {
  return pack(low(pair) * factor, high(pair) * factor);
}

/// 2^x; 0 for minus infinity.
__device__ inline float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ inline void warpgroup_barrier(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

/// Four 8x8 blocks: the registers of a 16x16 operand A (wgmma.cuh).
__device__ inline void load_matrix(uint32_t (&a)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(address)
               : "memory");
}

/// Sum over the four threads that share a row.
__device__ inline float quad_sum(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}

}  // namespace dm::kernels::cuda
