#include "kernels/selective_scan/selective_scan.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/selective_scan/selective_scan_reference.h"

namespace dm::kernels {

ScanOutput selective_scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
                          const std::optional<at::Tensor>& initial_state) {
  DM_CHECK_FLOATING("selective_scan", x);
  const at::ScalarType dtype = x.scalar_type();
  DM_CHECK_SHAPE("selective_scan", x, dtype, -1, -1, -1);
  const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2);
  DM_CHECK(length >= 1, "selective_scan: x is {}: there must be a token", describe(x));
  DM_CHECK_SHAPE("selective_scan", dt, dtype, batch, length, channels);
  DM_CHECK_SHAPE("selective_scan", a, dtype, channels, -1);
  const int64_t d_state = a.size(1);
  DM_CHECK_SHAPE("selective_scan", b, dtype, batch, length, d_state);
  DM_CHECK_SHAPE("selective_scan", c, dtype, batch, length, d_state);
  DM_CHECK_SHAPE("selective_scan", d, dtype, channels);
  DM_CHECK_SHAPE("selective_scan", seq_idx, at::kInt, batch, length);
  if (initial_state) DM_CHECK_SHAPE("selective_scan", *initial_state, dtype, batch, channels, d_state);
  return selective_scan_reference(x, dt, a, b, c, d, seq_idx, initial_state);
}

at::Tensor selective_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, at::Tensor& state) {
  const at::NoGradGuard no_grad;
  const at::Tensor seq_idx = at::zeros({x.size(0), 1}, at::kInt);
  ScanOutput out =
      selective_scan(x.unsqueeze(1), dt.unsqueeze(1), a, b.unsqueeze(1), c.unsqueeze(1), d, seq_idx, state);
  state.copy_(out.final_state);
  return out.y.squeeze(1);
}

}  // namespace dm::kernels
