#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// gated_norm() of kernels/gated_norm/gated_norm.h on a GPU.
at::Tensor gated_norm_cuda(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight, int64_t spans,
                           const std::optional<at::Tensor>& scale, double eps);

}  // namespace dm::kernels
