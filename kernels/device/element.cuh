#pragma once
// Elements in registers. Kernels compute in float32: they widen what they load and round once, where they
// store. A pack is what one thread loads at once, 16 bytes.

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

using bf16 = __nv_bfloat16;

__device__ inline float widen(float v) { return v; }
__device__ inline float widen(bf16 v) { return __bfloat162float(v); }

template <typename T>
__device__ T narrow(float v) {
  if constexpr (sizeof(T) == sizeof(float))
    return v;
  else
    return __float2bfloat16_rn(v);
}

template <typename T>
inline constexpr int kPack = 16 / sizeof(T);

/// `from` is a multiple of 16 bytes.
template <typename T>
__device__ void load_pack(const T* from, float (&values)[kPack<T>]) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == sizeof(float)) {
      values[i] = __uint_as_float(words[i]);
    } else {
      values[2 * i] = __uint_as_float(words[i] << 16);
      values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
}

template <typename T>
__device__ void store_pack(T* to, const float (&values)[kPack<T>]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == sizeof(float)) {
      words[i] = __float_as_uint(values[i]);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
      words[i] = reinterpret_cast<const uint32_t&>(pair);
    }
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

inline bool in_packs(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

/// Calls `kernel` with a float or a bf16, whichever `element` names.
template <typename Call>
auto for_element(Element element, const Call& call) {
  return element == Element::kFloat32 ? call(float{}) : call(bf16{});
}

}  // namespace dm::kernels::cuda
