#pragma once
// Sums over tokens, as gradients of weights are: each task leaves its share, and the shares are added in one
// order, so that the result does not depend on how many threads there were.

#include <cstdint>

namespace dm::kernels {

/// to[i] = Σ_k shares[k, i] for k = 0, 1, .. count - 1, in float64.
template <class T>
void sum_shares(const double* shares, int64_t count, int64_t width, T* to);

}  // namespace dm::kernels
