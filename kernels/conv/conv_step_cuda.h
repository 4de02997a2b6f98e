#pragma once

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// causal_conv_step() on a GPU; x and window float32 or bfloat16 each, weight and bias float32.
at::Tensor causal_conv_step_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 at::Tensor& window);

}  // namespace dm::kernels
