#pragma once
// The residual stream: its norms, and how a block adds to it.

#include <functional>

#include "model/scope.h"

namespace dm::model {

/// Declares `name`.weight, and `name`.bias of a LayerNorm.
void declare_norm(const ModelConfig& config, const std::string& name, const Declare& declare);
/// RMSNorm or LayerNorm of x [.., D], as the model is configured.
at::Tensor apply_norm(const ModelConfig& config, const Scope& norm, const at::Tensor& x);

/// pre: h + block(norm(h)); post: norm(h + block(h)).
at::Tensor add_block(const ModelConfig& config, const Scope& norm, const at::Tensor& h,
                     const std::function<at::Tensor(const at::Tensor&)>& block);

}  // namespace dm::model
