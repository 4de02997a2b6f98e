#pragma once

#include <cstdint>

#include "kernels/simd/dispatch.h"

namespace dm::kernels {

/// AdamWStep in the type of the update, with what is the same for all elements worked out.
template <class T>
struct AdamWFactors {
  T beta1, beta2, eps, grad_scale;
  T keep;  // 1 - lr weight_decay
  T rate;  // lr / (1 - beta1^step)
  T root;  // sqrt(1 - beta2^step)
};

// clang-format off
DM_SIMD_DECLARE(
  template <class T> void adamw_task(T* weight, T* m, T* v, const T* grad, int64_t count, const AdamWFactors<T>& f);
)
// clang-format on

}  // namespace dm::kernels
