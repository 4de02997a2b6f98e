#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// layer_norm() of kernels/norm/norm.h, or rms_norm() where there is no bias, on a GPU; `dtype` is that of
/// the result.
at::Tensor norm_cuda(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                     double eps, at::ScalarType dtype);

}  // namespace dm::kernels
