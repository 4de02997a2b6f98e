#include "kernels/selective_scan/selective_scan_reference.h"

#include <ATen/ATen.h>

namespace dm::kernels {

ScanOutput selective_scan_reference(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                                    const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                                    const at::Tensor& seq_idx,
                                    const std::optional<at::Tensor>& initial_state) {
  const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2), d_state = a.size(1);
  at::Tensor state =
      initial_state ? *initial_state : at::zeros({batch, channels, d_state}, x.options());  // [B, E, N]
  const at::Tensor nothing = at::zeros_like(state);
  std::vector<at::Tensor> y;
  for (int64_t t = 0; t < length; ++t) {
    const at::Tensor x_t = x.select(1, t);                  // [B, E]
    const at::Tensor dt_t = dt.select(1, t).unsqueeze(-1);  // [B, E, 1]
    const at::Tensor b_t = b.select(1, t).unsqueeze(1);     // [B, 1, N]
    const at::Tensor c_t = c.select(1, t).unsqueeze(1);     // [B, 1, N]
    if (t > 0) {
      const at::Tensor same_document = seq_idx.select(1, t) == seq_idx.select(1, t - 1);  // [B]
      state = at::where(same_document.view({batch, 1, 1}), state, nothing);
    }
    state = at::exp(dt_t * a) * state + dt_t * x_t.unsqueeze(-1) * b_t;  // [B, E, N]
    y.push_back((state * c_t).sum(-1) + d * x_t);                        // [B, E]
  }
  return {at::stack(y, 1), state};
}

}  // namespace dm::kernels
