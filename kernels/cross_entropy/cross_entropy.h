#pragma once
// The language-model head and its loss in one operation, so that the logits [T, V] are never held.
//
//   logits_t = weight h_t
//   nll_t    = log Σ_v exp(logits_t[v]) - logits_t[target_t]
//   sum      = Σ_t mask_t nll_t

#include "kernels/linear/weight.h"

namespace dm::kernels {

struct CrossEntropy {
  at::Tensor sum;         // scalar, in the dtype of h (float32 on a GPU); differentiable in h and weight
  at::Tensor per_target;  // [T], likewise, nll_t in nats where mask_t is 1 and 0 elsewhere; no gradient
};

/// h [T, D], weight [V, D], targets [T] int64, mask [T] uint8 (0 = no loss: the target there is not looked
/// at, and h's gradient there is 0). Works in blocks of rows, any strides. The gradients are formed in the
/// forward pass, while the logits are at hand, when autograd is on and asks for them.
///
/// On the CPU: float32 or float64; blocks of cross_entropy_block_rows, GEMMs by LibTorch; exponentials in the
/// dtype of h, sums over V from partial sums of 256, and the sum over t, in float64. Where mask is 1 a target
/// outside [0, V) is refused. The gradients are saved for the backward pass ([T, D] and [V, D]), which only
/// scales them. The same bits on every call for the same shapes and thread count.
///
/// On a GPU: bfloat16 or float32; logits in the dtype of h, about 256 MiB of them at a time, their gradients
/// in their place; all else float32, the sum over t float64. A target outside [0, V) makes the loss NaN (and
/// the gradients): refusing it would have to wait for the GPU. With a weight made of parts the gradient of
/// `sum` must be 1, as training has it: the weight's gradient is added to the parts in the forward pass
/// already, and that of h ([T, D], saved) is passed on unscaled. The same bits on every call.
CrossEntropy linear_cross_entropy(const at::Tensor& h, const Weight& weight, const at::Tensor& targets,
                                  const at::Tensor& mask);

/// Rows of logits held at a time on the CPU: about 16 MiB of them, but at least 128 for the GEMM's sake, and
/// at most 1024.
int64_t cross_entropy_block_rows(int64_t vocabulary, int64_t element_bytes);

}  // namespace dm::kernels
