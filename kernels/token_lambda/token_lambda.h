#pragma once
// λ that a token has of its own, or each of its heads: from a projection's columns to what scales the
// sections of both branches.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dm::kernels {

struct TokenLambda {
  at::Tensor branches;  // [.., width], the branches' columns where they are
  at::Tensor sections;  // [.., 2n]: n times 1, then −λ; or −λ alone, [.., n]
};

/// columns [.., width + n]: a projection's of the branches, and n of λ behind them; bias [n]. λ = σ(column +
/// bias). `first`: whether the first branch is there, whose sections are scaled by 1. On a GPU columns are
/// bfloat16 or float32, bias and sections float32; on the CPU all are of one dtype. Differentiable. On a GPU
/// the gradient of λ's columns is written behind each row of that of the others, without copying these, where
/// their producer left room, as ssd_mixer does; one launch going forward, two going back, the same bits on
/// every call.
TokenLambda token_lambda(const at::Tensor& columns, int64_t width, const at::Tensor& bias, bool first);

}  // namespace dm::kernels
