#pragma once
// linear.h on the GPU.

#include "kernels/linear/linear.h"

namespace dm::kernels {

at::Tensor linear_cuda(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias);
std::pair<at::Tensor, at::Tensor> split_columns_cuda(const at::Tensor& columns, int64_t width);

/// Adds dyᵀ x, the gradient of `weight`, to its parts; dy [T, O], x [T, I].
void add_weight_gradient(const at::Tensor& dy, const at::Tensor& x, const Weight& weight);

}  // namespace dm::kernels
