#include "kernels/ssd/ssd_reference.h"

#include <ATen/ATen.h>

namespace dm::kernels {

ScanOutput ssd_reference(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                         const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
                         const std::optional<at::Tensor>& initial_state) {
  const int64_t batch = x.size(0), length = x.size(1), heads = x.size(2), head_dim = x.size(3),
                d_state = b.size(3);
  const int64_t heads_per_group = heads / b.size(2);
  at::Tensor state = initial_state
                         ? *initial_state
                         : at::zeros({batch, heads, head_dim, d_state}, x.options());  // [B, H, P, N]
  const at::Tensor nothing = at::zeros_like(state);
  std::vector<at::Tensor> y;
  for (int64_t t = 0; t < length; ++t) {
    const at::Tensor x_t = x.select(1, t).unsqueeze(-1);                  // [B, H, P, 1]
    const at::Tensor dt_t = dt.select(1, t).unsqueeze(-1).unsqueeze(-1);  // [B, H, 1, 1]
    const at::Tensor b_t =
        b.select(1, t).repeat_interleave(heads_per_group, 1).unsqueeze(-2);  // [B, H, 1, N]
    const at::Tensor c_t =
        c.select(1, t).repeat_interleave(heads_per_group, 1).unsqueeze(-2);  // [B, H, 1, N]
    if (t > 0) {
      const at::Tensor same_document = seq_idx.select(1, t) == seq_idx.select(1, t - 1);  // [B]
      state = at::where(same_document.view({batch, 1, 1, 1}), state, nothing);
    }
    state = at::exp(dt_t * a.view({1, heads, 1, 1})) * state + dt_t * x_t * b_t;   // [B, H, P, N]
    y.push_back((state * c_t).sum(-1) + d.view({1, heads, 1}) * x_t.squeeze(-1));  // [B, H, P]
  }
  return {at::stack(y, 1), state};
}

}  // namespace dm::kernels
