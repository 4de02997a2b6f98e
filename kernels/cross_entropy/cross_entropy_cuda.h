#pragma once

#include "kernels/cross_entropy/cross_entropy.h"

namespace dm::kernels {

/// linear_cross_entropy() on a GPU, its arguments checked; targets and mask contiguous.
CrossEntropy linear_cross_entropy_cuda(const at::Tensor& h, const Weight& weight, const at::Tensor& targets,
                                       const at::Tensor& mask);

}  // namespace dm::kernels
