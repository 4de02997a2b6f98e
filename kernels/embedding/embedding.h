#pragma once
// y_t = weight[ids_t], the first layer of a language model.

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// ids [..] int64 or int32, each in [0, V) (refused otherwise), weight [V, D] -> [.., D]. float32 or float64.
/// Differentiable in weight: the gradient [V, D] is dense and adds the tokens of each id in their order, so
/// the same bits on every call and for every number of threads.
at::Tensor embedding(const at::Tensor& ids, const at::Tensor& weight);

}  // namespace dm::kernels
