#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// gated_norm() of kernels/gated_norm/gated_norm.h as its formula stands, in plain tensor operations,
/// differentiable through autograd.
at::Tensor gated_norm_reference(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight,
                                int64_t spans, const std::optional<at::Tensor>& scale, double eps);

}  // namespace dm::kernels
