#pragma once
// The pass between two blocks of the network: the block's output enters the residual stream, of which the
// next block reads the RMSNorm.
//   h' = h + (subln ? rms_norm(y, subln) : y)
//   u  = rms_norm(h', weight)

#include <ATen/core/Tensor.h>

#include <optional>

namespace dm::kernels {

struct ResidualNorm {
  at::Tensor h;  // h', in h's dtype
  at::Tensor u;  // in y's dtype
};

/// h [.., D] the residual stream, y [.., D] the block's output, subln [D], weight [D] -> h', u [.., D].
///
/// On the CPU float32 or float64, all alike. On a GPU y is float32 or bfloat16, h float32 or y's dtype, the
/// weights are float32; u is the norm of h' as it is stored. There it is one pass each way, over 12 D bytes a
/// token forward and 18 D backward (bfloat16, float32 stream), where D is a multiple of eight up to 8192;
/// other widths take the norms and the sum one by one. Sums are float32, over tokens in a fixed order.
/// Differentiable in all tensors, through both results. Saved for the backward pass: h', y and one reciprocal
/// root a token for each norm.
ResidualNorm residual_norm(const at::Tensor& h, const at::Tensor& y, const std::optional<at::Tensor>& subln,
                           const at::Tensor& weight, double eps);

}  // namespace dm::kernels
