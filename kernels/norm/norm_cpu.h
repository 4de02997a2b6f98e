#pragma once
// The norms over rows on the CPU, on raw memory: norm.h says what is computed. A task is a block of kNormRows
// rows; its sums over rows are its share of dweight and dbias.

#include <cstdint>

#include "kernels/simd/dispatch.h"

namespace dm::kernels {

inline constexpr int64_t kNormRows = 32;

template <class T>
struct NormInput {
  int64_t rows, width;  // D
  const T* x;           // [rows, D], last dim contiguous
  int64_t x_stride;
  const T* weight;  // [D]
  const T* bias;    // [D] of layer_norm, nullptr for rms_norm, which subtracts no mean
  double eps;
  int64_t blocks() const { return (rows + kNormRows - 1) / kNormRows; }
};

template <class T>
struct NormGradient {
  const T* dy;  // [rows, D], last dim contiguous
  int64_t dy_stride;
  const T* mean;   // [rows] of layer_norm, as the forward pass left it
  const T* root;   // [rows]: 1 / sqrt(.. + eps)
  T* dx;           // [rows, D]
  double* shares;  // [blocks, 2 D]: dweight, then dbias (layer_norm only)
};

// clang-format off
DM_SIMD_DECLARE(
  /// y [rows, D]; mean and root as NormGradient wants them.
  template <class T>
  void norm_forward_task(const NormInput<T>& in, T* y, T* mean, T* root, int64_t block);

  /// scratch: 2 D elements.
  template <class T>
  void norm_backward_task(const NormInput<T>& in, const NormGradient<T>& grad, int64_t block, T* scratch);
)
// clang-format on

}  // namespace dm::kernels
