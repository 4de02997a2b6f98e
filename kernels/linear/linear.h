#pragma once
// y = x Wᵀ + bias, the projection of every layer.

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// x [.., I], weight [O, I], bias [O] -> [.., O]. float32 or float64, all alike; any strides. LibTorch's GEMM
/// is used as it stands: it accumulates in the dtype of the inputs, and repeats bit for bit for the same
/// shapes and thread count. Differentiable.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias = std::nullopt);

}  // namespace dm::kernels
