#pragma once
// Norms over the last dim: RMSNorm (Zhang and Sennrich, arXiv 1910.07467) and LayerNorm (Ba et al., arXiv
// 1607.06450).
//   rms_norm:   y = weight * x / sqrt(mean(x²) + eps)
//   layer_norm: y = weight * (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) + bias

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// x [.., D], weight [D] -> [.., D], in `dtype` if given, else in x's.
///
/// On the CPU float32 or float64, all alike; any strides (a last dim that is not contiguous is copied first).
/// Sums over D and over rows accumulate in float64. On a GPU x and the result are float32 or bfloat16, each
/// for itself, weight is float32, and so are the sums. Differentiable; saved for the backward pass: the
/// inputs and the reciprocal root, one value a row. The same bits on every call and for every number of
/// threads.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    std::optional<at::ScalarType> dtype = std::nullopt);

/// As rms_norm; saved besides: the mean of each row.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                      std::optional<at::ScalarType> dtype = std::nullopt);

}  // namespace dm::kernels
