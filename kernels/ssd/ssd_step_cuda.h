#pragma once

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// ssd_step() on a GPU, its arguments checked.
at::Tensor ssd_step_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                         const at::Tensor& c, const at::Tensor& d, at::Tensor& state);

}  // namespace dm::kernels
