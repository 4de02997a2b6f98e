#pragma once
// Between the blocks of a launch: words of two bfloat16 in the low half and the number of the launch in the
// high half, written and read as one. A reader waits for the number it knows; nothing else has to be in
// order.

#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {

__device__ inline void post(uint64_t* word, float first, float second, uint32_t launch) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  const uint64_t value = uint64_t{launch} << 32 | reinterpret_cast<const uint32_t&>(pair);
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

/// Two neighbouring words as they are now.
__device__ inline void look(const uint64_t* words, uint64_t& first, uint64_t& second) {
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(first), "=l"(second)
               : "l"(words)
               : "memory");
}
__device__ inline uint64_t look(const uint64_t* word) {
  uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
}
__device__ inline bool is_of(uint64_t word, uint32_t launch) {
  return static_cast<uint32_t>(word >> 32) == launch;
}

/// The two words from an even place on, once they are there.
__device__ inline void take(const uint64_t* words, uint32_t launch, uint32_t (&pairs)[2]) {
  uint64_t first, second;
  do look(words, first, second);
  while (!is_of(first, launch) || !is_of(second, launch));
  pairs[0] = static_cast<uint32_t>(first), pairs[1] = static_cast<uint32_t>(second);
}

/// Bits of element `column` of what a word holds.
__device__ inline uint32_t half_bits(uint64_t word, int column) {
  const auto pair = static_cast<uint32_t>(word);
  return column % 2 == 0 ? pair & 0xffffu : pair >> 16;
}

}  // namespace dm::kernels::cuda
