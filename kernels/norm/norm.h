#pragma once
// Norms over the last dim: RMSNorm (Zhang and Sennrich, arXiv 1910.07467) and LayerNorm (Ba et al., arXiv
// 1607.06450).
//   rms_norm:   y = weight * x / sqrt(mean(x²) + eps)
//   layer_norm: y = weight * (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) + bias

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// x [.., D], weight [D] -> [.., D]. float32 or float64, all alike; any strides (a last dim that is not
/// contiguous is copied first). Sums over D and over rows accumulate in float64. Differentiable; saved for
/// the backward pass: the inputs and the reciprocal root, one value a row. The same bits on every call and
/// for every number of threads.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// As rms_norm; saved besides: the mean of each row.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

}  // namespace dm::kernels
