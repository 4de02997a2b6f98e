#pragma once

#include "kernels/cross_entropy/cross_entropy.h"

namespace dm::kernels {

/// linear_cross_entropy() with all logits at once, in plain tensor operations, differentiable through
/// autograd.
CrossEntropy linear_cross_entropy_reference(const at::Tensor& h, const at::Tensor& weight,
                                            const at::Tensor& targets, const at::Tensor& mask);

}  // namespace dm::kernels
