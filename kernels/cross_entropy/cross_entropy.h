#pragma once
// The language-model head and its loss in one operation, so that the logits [T, V] are never held.
//
//   logits_t = weight h_t
//   nll_t    = log Σ_v exp(logits_t[v]) - logits_t[target_t]
//   sum      = Σ_t mask_t nll_t

#include <ATen/core/Tensor.h>

namespace dm::kernels {

struct CrossEntropy {
  at::Tensor sum;         // scalar, in the dtype of h; differentiable in h and weight
  at::Tensor per_target;  // [T], nll_t in nats where mask_t is 1 and 0 elsewhere; no gradient
};

/// h [T, D], weight [V, D], targets [T] int64, mask [T] uint8 (0 = no loss: the target there is not looked
/// at, and h's gradient there is 0). Where mask is 1 a target outside [0, V) is refused.
///
/// float32 or float64; any strides. Works in blocks of rows (cross_entropy_block_rows), GEMMs by LibTorch;
/// exponentials in the dtype of h, sums over V from partial sums of 256, and the sum over t, in float64. The
/// gradients are formed in the forward pass, while the logits are at hand, when autograd is on and asks for
/// them: they are what is saved for the backward pass ([T, D] and [V, D]), which only scales them. The same
/// bits on every call for the same shapes and thread count.
CrossEntropy linear_cross_entropy(const at::Tensor& h, const at::Tensor& weight, const at::Tensor& targets,
                                  const at::Tensor& mask);

/// Rows of logits held at a time: about 16 MiB of them, but at least 128 for the GEMM's sake, and at most
/// 1024.
int64_t cross_entropy_block_rows(int64_t vocabulary, int64_t element_bytes);

}  // namespace dm::kernels
