#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// causal_conv_silu() of kernels/conv/causal_conv.h, tap by tap in plain tensor operations, differentiable
/// through autograd.
at::Tensor causal_conv_silu_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                      const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial);

}  // namespace dm::kernels
