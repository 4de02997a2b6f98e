#pragma once

#include <cstdint>

#include "kernels/simd/dispatch.h"

namespace dm::kernels {

// clang-format off
DM_SIMD_DECLARE(
  /// One row of logits [V]: returns log Σ_v exp(logits[v]) - logits[target]. With `gradient` the row becomes
  /// softmax(logits) - onehot(target).
  template <class T> double cross_entropy_row(T* logits, int64_t vocabulary, int64_t target, bool gradient);
)
// clang-format on

}  // namespace dm::kernels
