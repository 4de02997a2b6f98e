#include "kernels/ssd/ssd.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/ssd/ssd_reference.h"

namespace dm::kernels {

ScanOutput ssd(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
               const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
               const std::optional<at::Tensor>& initial_state, int64_t chunk) {
  DM_CHECK_FLOATING("ssd", x);
  const at::ScalarType dtype = x.scalar_type();
  DM_CHECK_SHAPE("ssd", x, dtype, -1, -1, -1, -1);
  DM_CHECK_SHAPE("ssd", b, dtype, x.size(0), x.size(1), -1, -1);
  const int64_t batch = x.size(0), length = x.size(1), heads = x.size(2), head_dim = x.size(3),
                groups = b.size(2), d_state = b.size(3);
  DM_CHECK(length >= 1 && groups >= 1 && heads % groups == 0,
           "ssd: x is {} and b {}: the groups must divide the heads, and there must be a token", describe(x),
           describe(b));
  DM_CHECK(chunk >= 1, "ssd: chunk is {}, expected at least 1", chunk);
  DM_CHECK_SHAPE("ssd", dt, dtype, batch, length, heads);
  DM_CHECK_SHAPE("ssd", a, dtype, heads);
  DM_CHECK_SHAPE("ssd", c, dtype, batch, length, groups, d_state);
  DM_CHECK_SHAPE("ssd", d, dtype, heads);
  DM_CHECK_SHAPE("ssd", seq_idx, at::kInt, batch, length);
  if (initial_state) DM_CHECK_SHAPE("ssd", *initial_state, dtype, batch, heads, head_dim, d_state);
  return ssd_reference(x, dt, a, b, c, d, seq_idx, initial_state);
}

at::Tensor ssd_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                    const at::Tensor& c, const at::Tensor& d, at::Tensor& state) {
  const at::NoGradGuard no_grad;
  const at::Tensor seq_idx = at::zeros({x.size(0), 1}, at::kInt);
  ScanOutput out =
      ssd(x.unsqueeze(1), dt.unsqueeze(1), a, b.unsqueeze(1), c.unsqueeze(1), d, seq_idx, state, 1);
  state.copy_(out.final_state);
  return out.y.squeeze(1);
}

}  // namespace dm::kernels
