#pragma once
// Depthwise causal convolution followed by SiLU, as both Mamba generations apply it before the scan
// (arXiv 2312.00752, figure 3).
//
// Per row and channel, for k = 0 .. W-1:
//   u_t = bias + Σ_k weight[k] x_{t-(W-1)+k}
//   y_t = u_t / (1 + exp(-u_t))
// Terms from before the row are taken from `initial`, or are zero. A term whose token is of another document
// than token t (different seq_idx) is left out, whatever its value; `initial` belongs to the document of
// token 0.

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// x [B, L, C], weight [C, W], bias [C], seq_idx [B, L] int32, initial [B, W-1, C] (the W-1 tokens before the
/// row, oldest first) -> y [B, L, C]; L >= 1, W >= 1.
///
/// On the CPU float32 or float64, all alike; any strides (an input whose last dim is not contiguous is copied
/// first). Accumulates in the dtype of the inputs, gradients of weight and bias over the tokens of a row in
/// float64. On a GPU x, initial and y are float32 or bfloat16, weight and bias float32, and so are the sums.
/// Differentiable in all but seq_idx. Saved for the backward pass: the inputs. The same bits on every call
/// and for every number of threads.
at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial);

/// One token for decoding: x [B, C] -> y [B, C]. `window` [B, W-1, C] holds the tokens before, oldest first;
/// x is appended and the oldest dropped in place. Not differentiable.
at::Tensor causal_conv_step(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            at::Tensor& window);

}  // namespace dm::kernels
