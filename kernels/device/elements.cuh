#pragma once
// Elements of activations in device code: float32 or bfloat16 in memory, float32 in registers.

#include <cuda_bf16.h>

#include <concepts>
#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

using bf16 = __nv_bfloat16;

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(bf16 v) { return __bfloat162float(v); }
__device__ inline void put(float* to, float v) { *to = v; }
__device__ inline void put(bf16* to, float v) { *to = __float2bfloat16_rn(v); }

/// Calls `call` with a float or a bf16, whichever `element` names.
template <class Call>
auto for_element(Element element, const Call& call) {
  return element == Element::kFloat32 ? call(float{}) : call(bf16{});
}

/// Whether memory from here on can be moved in accesses of 16 bytes.
inline bool in_packs(const void* memory) { return reinterpret_cast<uintptr_t>(memory) % 16 == 0; }

/// kCount consecutive elements as they stand in memory, moved in accesses of up to 16 bytes.
template <class T, int kCount>
struct Pack {
  static constexpr int kWords = kCount * int{sizeof(T)} / 4;
  static constexpr bool kHalves = sizeof(T) == 2;
  static_assert(kWords % 2 == 0);
  uint32_t words[kWords];

  static __device__ Pack zero() {
    Pack pack;
#pragma unroll
    for (int i = 0; i < kWords; ++i) pack.words[i] = 0;
    return pack;
  }
  /// A template so that an array of floats is never taken for memory, also where T is float.
  template <std::same_as<T> Stored>
  static __device__ Pack of(const Stored* from) {
    Pack pack;
    if constexpr (kWords % 4 == 0) {
#pragma unroll
      for (int i = 0; i < kWords; i += 4) {
        const uint4 v = reinterpret_cast<const uint4*>(from)[i / 4];
        pack.words[i] = v.x, pack.words[i + 1] = v.y, pack.words[i + 2] = v.z, pack.words[i + 3] = v.w;
      }
    } else {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      pack.words[0] = v.x, pack.words[1] = v.y;
    }
    return pack;
  }
  /// Zeros where there is nothing to read.
  static __device__ Pack of(const T* from, bool present) { return present ? of(from) : zero(); }
  static __device__ Pack of(const float (&v)[kCount]) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (kHalves) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
        pack.words[i] = reinterpret_cast<const uint32_t&>(pair);
      } else {
        pack.words[i] = __float_as_uint(v[i]);
      }
    }
    return pack;
  }
  __device__ void to(T* memory) const {
    if constexpr (kWords % 4 == 0) {
#pragma unroll
      for (int i = 0; i < kWords; i += 4)
        reinterpret_cast<uint4*>(memory)[i / 4] =
            make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
    } else {
      *reinterpret_cast<uint2*>(memory) = make_uint2(words[0], words[1]);
    }
  }
  /// Element i, which must be known to the compiler.
  __device__ float operator[](int i) const {
    if constexpr (kHalves)
      return __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    else
      return __uint_as_float(words[i]);
  }
};

/// 1 / (1 + e^-v): for float32 to its last bits, for bfloat16 by the special function units.
template <class T>
__device__ float sigmoid(float v) {
  if constexpr (sizeof(T) == 2) {
    constexpr float kLog2E = 1.4426950408889634f;
    // In assembly, because without flushing of subnormal numbers the compiler guards both with five
    // instructions more.
    float power, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-kLog2E * v));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.f + power));
    return inverse;
  } else
    return 1.f / (1.f + expf(-v));
}

/// log(1 + e^v), its relative error below 1e-6 wherever v is: the logarithm as 2 artanh(s) = 2 (s + s³/3 +
/// ..) of s = e / (2 + e) with e = e^-|v|, in half of the instructions of log1pf.
__device__ inline float softplus(float v) {
  const float e = expf(-fabsf(v)), s = __fdividef(e, 2.f + e), s2 = s * s;
  float series = 1.f / 13;
#pragma unroll
  for (int k = 11; k >= 1; k -= 2) series = series * s2 + 1.f / static_cast<float>(k);
  return fmaxf(v, 0.f) + 2.f * s * series;
}

}  // namespace dm::kernels::cuda
