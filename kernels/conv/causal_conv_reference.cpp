#include "kernels/conv/causal_conv_reference.h"

#include <ATen/ATen.h>

namespace dm::kernels {

at::Tensor causal_conv_silu_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                      const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial) {
  const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2), width = weight.size(1);
  const at::Tensor before = initial ? *initial : at::zeros({batch, width - 1, channels}, x.options());
  const at::Tensor tokens = at::cat({before, x}, 1);  // [B, W-1+L, C]
  const at::Tensor documents =
      at::cat({seq_idx.slice(1, 0, 1).expand({batch, width - 1}), seq_idx}, 1);  // [B, W-1+L]
  at::Tensor sum = bias.expand({batch, length, channels});
  for (int64_t k = 0; k < width; ++k) {
    const at::Tensor same_document =
        (documents.slice(1, k, k + length) == seq_idx).unsqueeze(-1);  // [B, L, 1]
    const at::Tensor term = weight.select(1, k) * at::where(same_document, tokens.slice(1, k, k + length),
                                                            at::zeros({}, x.options()));
    sum = sum + term;
  }
  return at::silu(sum);
}

}  // namespace dm::kernels
