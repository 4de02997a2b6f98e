#pragma once

#include "kernels/norm/residual_norm.h"

namespace dm::kernels {

/// Whether residual_norm_cuda() takes tensors like these.
bool residual_norm_fuses(const at::Tensor& h, const at::Tensor& y);

/// residual_norm() in one pass each way, on a GPU.
ResidualNorm residual_norm_cuda(const at::Tensor& h, const at::Tensor& y,
                                const std::optional<at::Tensor>& subln, const at::Tensor& weight, double eps);

}  // namespace dm::kernels
