#include "kernels/conv/causal_conv.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/conv/causal_conv_reference.h"

namespace dm::kernels {

at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial) {
  DM_CHECK_FLOATING("causal_conv_silu", x);
  const at::ScalarType dtype = x.scalar_type();
  DM_CHECK_SHAPE("causal_conv_silu", x, dtype, -1, -1, -1);
  const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2);
  DM_CHECK_SHAPE("causal_conv_silu", weight, dtype, channels, -1);
  const int64_t width = weight.size(1);
  DM_CHECK(length >= 1 && width >= 1,
           "causal_conv_silu: x is {} and weight {}: there must be a token and a tap", describe(x),
           describe(weight));
  DM_CHECK_SHAPE("causal_conv_silu", bias, dtype, channels);
  DM_CHECK_SHAPE("causal_conv_silu", seq_idx, at::kInt, batch, length);
  if (initial) DM_CHECK_SHAPE("causal_conv_silu", *initial, dtype, batch, width - 1, channels);
  return causal_conv_silu_reference(x, weight, bias, seq_idx, initial);
}

at::Tensor causal_conv_step(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            at::Tensor& window) {
  const at::NoGradGuard no_grad;
  const at::Tensor seq_idx = at::zeros({x.size(0), 1}, at::kInt);
  const at::Tensor y = causal_conv_silu(x.unsqueeze(1), weight, bias, seq_idx, window).squeeze(1);
  window.copy_(at::cat({window, x.unsqueeze(1)}, 1).slice(1, 1));
  return y;
}

}  // namespace dm::kernels
