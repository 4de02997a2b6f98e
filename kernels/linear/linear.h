#pragma once
// y = x Wᵀ + bias, the projection of every layer.

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/linear/weight.h"

namespace dm::kernels {

/// x [.., I], weight [O, I], bias [O] -> [.., O]. On the CPU float32 or float64, all alike; LibTorch's GEMM
/// is used as it stands: it accumulates in the dtype of the inputs, and repeats bit for bit for the same
/// shapes and thread count. On a GPU x and weight are bfloat16 or float32 (never tf32), sums are float32,
/// bias is float32; the gradient of a weight made of parts is added to theirs in the backward pass.
/// Differentiable; any strides.
at::Tensor linear(const at::Tensor& x, const Weight& weight,
                  const std::optional<at::Tensor>& bias = std::nullopt);

}  // namespace dm::kernels
