#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// causal_conv_silu() of kernels/conv/causal_conv.h on a GPU.
at::Tensor causal_conv_silu_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial);

}  // namespace dm::kernels
