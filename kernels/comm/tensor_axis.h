#pragma once
// What the ranks of a tensor group exchange inside a model, as differentiable operations. All ranks work on
// the same T tokens; what depends on a rank's share of heads, channels or vocabulary is a part of a sum over
// the ranks, and so is the gradient of what all ranks read.

#include <ATen/core/Tensor.h>

#include "core/collectives.h"

namespace dm::kernels {

/// The tokens of T that a rank holds between two layers: consecutive, counts equal or one apart, the larger
/// ones first. Exchanged pieces are padded to the largest count.
struct TokenShare {
  int64_t begin, count, widest;
  TokenShare(int64_t tokens, int64_t ranks, int64_t rank);
};

/// Every rank's tokens [count, D] -> all, [T, D]. Backward: scatter_sum. A rank sends (size - 1) widest D
/// elements each way.
at::Tensor gather_tokens(const at::Tensor& mine, int64_t tokens, Collectives& group);

/// Each rank's part [T, D] of a sum -> this rank's tokens of the sum, [count, D]. Backward: gather_tokens.
/// The same number of elements.
at::Tensor scatter_sum(const at::Tensor& part, Collectives& group);

/// The sum over the ranks, on every rank; backward likewise, since every rank goes on with the sum in its own
/// way. An all_reduce of x's elements each way.
at::Tensor sum_over_ranks(const at::Tensor& x, Collectives& group);

}  // namespace dm::kernels
