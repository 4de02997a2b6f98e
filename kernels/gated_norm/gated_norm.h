#pragma once
// The gated norm between Mamba-2's scan and its output projection (arXiv 2405.21060, figure 6), with the
// factor that turns two branches into their difference (Differential Mamba, arXiv 2507.06204) folded into its
// epilogue.
//
// Per token, with E cut into `spans` equal consecutive parts and, independently, into S equal consecutive
// sections:
//   g = y * z / (1 + exp(-z))
//   out_e = g_e / sqrt(mean over e's span of g² + eps) * weight_e * scale[section of e]
// Two merged branches are two spans; scale = (1, -λ) makes the next GEMM compute W_1 n_1 - λ W_2 n_2. λ per
// layer, head, token or both differ only in the shape of `scale`; its gradient is a sum over sections inside
// the backward pass.

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

/// y and z [B, L, E], weight [E], `spans` divides E, scale broadcastable to [B, L, S] where S, its last dim,
/// divides E; without it the factor is 1 -> [B, L, E].
///
/// On the CPU float32 or float64, all alike; any strides (a last dim that is not contiguous is copied first).
/// Sums over E and over tokens accumulate in float64. On a GPU y and z are float32 or bfloat16, weight and
/// scale float32, and so are the sums. Differentiable in y, z, weight and scale; saved for the backward
/// pass: the inputs and the reciprocal root, `spans` values a token. The same bits on every call and for
/// every number of threads.
at::Tensor gated_norm(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight, int64_t spans,
                      const std::optional<at::Tensor>& scale, double eps);

}  // namespace dm::kernels
