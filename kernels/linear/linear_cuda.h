#pragma once
// linear.h on the GPU.

#include "kernels/linear/linear.h"

namespace torch::autograd {
struct AutogradContext;
}

namespace dm::kernels {

at::Tensor linear_cuda(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias);

/// Keeps a weight for the backward pass, outside of what autograd watches: its values may change in place
/// once that pass is over. `name`: which of several.
void keep_weight(torch::autograd::AutogradContext& context, const Weight& weight,
                 const std::string& name = "weight");
Weight kept_weight(torch::autograd::AutogradContext& context, const std::string& name = "weight");

/// Adds dyᵀ x, the gradient of `weight`, to its parts; dy [T, O], x [T, I].
void add_weight_gradient(const at::Tensor& dy, const at::Tensor& x, const Weight& weight);

}  // namespace dm::kernels
