#pragma once
// Elements whose type is known when the kernel runs: where there are few of them, or memory is waited for
// anyway, the branch costs nothing and spares an instantiation for every combination.

#include "kernels/device/elements.cuh"
#include "kernels/device/rows.h"

namespace dm::kernels::cuda {

__device__ inline float read(const Rows& rows, int64_t row, int64_t i) {
  const int64_t at = row * rows.stride + i;
  return rows.element == Element::kFloat32 ? static_cast<const float*>(rows.data)[at]
                                           : to_float(static_cast<const bf16*>(rows.data)[at]);
}

__device__ inline void write(void* to, Element element, int64_t at, float value) {
  if (element == Element::kFloat32)
    static_cast<float*>(to)[at] = value;
  else
    put(static_cast<bf16*>(to) + at, value);
}

}  // namespace dm::kernels::cuda
