#include "kernels/gated_norm/gated_norm_reference.h"

#include <ATen/ATen.h>

namespace dm::kernels {

at::Tensor gated_norm_reference(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight,
                                int64_t spans, const std::optional<at::Tensor>& scale, double eps) {
  const int64_t width = y.size(-1);
  const at::Tensor g = (y * at::silu(z)).unflatten(-1, {spans, width / spans});  // [B, L, spans, E / spans]
  const at::Tensor n = (g * at::rsqrt((g * g).mean(-1, true) + eps)).flatten(-2) * weight;  // [B, L, E]
  if (!scale) return n;
  const int64_t sections = scale->size(-1);
  return (n.unflatten(-1, {sections, width / sections}) * scale->unsqueeze(-1)).flatten(-2);
}

}  // namespace dm::kernels
