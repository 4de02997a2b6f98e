#pragma once
// y_t = weight[ids_t], the first layer of a language model.

#include "kernels/linear/weight.h"

namespace dm::kernels {

/// ids [..] int64 or int32, weight [V, D] -> [.., D] in its dtype. Differentiable in weight; its gradient
/// adds the tokens of each id in one order: the same bits on every call and for every number of threads.
///
/// On the CPU float32 or float64; ids outside [0, V) are refused; the gradient is dense, [V, D].
/// On a GPU float32 or bfloat16. An id outside [0, V) gives NaN, since refusing it would have to wait for the
/// GPU. The weight may have one part, its whole self, to whose gradient it is added in the backward pass.
at::Tensor embedding(const at::Tensor& ids, const Weight& weight);

}  // namespace dm::kernels
