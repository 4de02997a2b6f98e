#pragma once
// Elements whose type is known when the kernel runs: where there are few of them, or memory is waited for
// anyway, the branch costs nothing and spares an instantiation for every combination.

#include "kernels/device/elements.cuh"
#include "kernels/device/rows.h"

namespace dm::kernels::cuda {

/// An element as it stands in memory, for loads that shall all be under way before one of them is looked at.
__device__ inline uint32_t bits(const Rows& rows, int64_t row, int64_t i) {
  const int64_t at = row * rows.stride + i;
  return rows.element == Element::kFloat32 ? static_cast<const uint32_t*>(rows.data)[at]
                                           : static_cast<const uint16_t*>(rows.data)[at];
}
__device__ inline float value(const Rows& rows, uint32_t bits) {
  return __uint_as_float(rows.element == Element::kFloat32 ? bits : bits << 16);
}
__device__ inline float read(const Rows& rows, int64_t row, int64_t i) {
  return value(rows, bits(rows, row, i));
}

__device__ inline void write(void* to, Element element, int64_t at, float value) {
  if (element == Element::kFloat32)
    static_cast<float*>(to)[at] = value;
  else
    put(static_cast<bf16*>(to) + at, value);
}

}  // namespace dm::kernels::cuda
