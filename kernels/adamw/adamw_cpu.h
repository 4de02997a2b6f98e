#pragma once

#include <cstdint>

#include "kernels/adamw/factors.h"
#include "kernels/simd/dispatch.h"

namespace dm::kernels {

// clang-format off
DM_SIMD_DECLARE(
  template <class T> void adamw_task(T* weight, T* m, T* v, const T* grad, int64_t count, const AdamWFactors<T>& f);
)
// clang-format on

}  // namespace dm::kernels
