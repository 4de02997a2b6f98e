#pragma once
// What is accepted of a computed value a against a stored one b, as ‖a − b‖ ≤ bound. The bounds are what the
// plain recurrence itself loses: in float64 against a second order of summation, in float32 over 24 seeds (at
// most 7.7e-5 of a gradient in the norm below; a gradient that nearly cancels is off by 2e-3 of itself, hence
// the floor by ‖g‖).

#include <ATen/ATen.h>

#include <algorithm>

namespace dm::golden {

/// y, logits, the first loss: ‖b‖ times this.
inline double forward_tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : 1e-5; }

/// The bound for a gradient of norm `norm` in a file whose parameter gradients have norm `all`.
inline double gradient_bound(at::ScalarType dtype, double norm, double all) {
  return dtype == at::kDouble ? 1e-10 * norm : 2e-4 * std::max(norm, 1e-2 * all);
}

/// Trained weights, gradient norms and later losses: ‖b‖ times this.
inline double trained_tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-10 : 2e-3; }

}  // namespace dm::golden
