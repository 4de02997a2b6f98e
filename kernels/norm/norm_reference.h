#pragma once

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// The norms of kernels/norm/norm.h as their formulas stand, in plain tensor operations, differentiable
/// through autograd.
at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor layer_norm_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                double eps);

}  // namespace dm::kernels
