#include "kernels/linear/linear.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"

namespace dm::kernels {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  DM_CHECK_FLOATING("linear", x);
  DM_CHECK(x.dim() >= 1, "linear: x is a scalar, expected [.., I]");
  DM_CHECK_SHAPE("linear", weight, x.scalar_type(), -1, x.size(-1));
  if (bias) DM_CHECK_SHAPE("linear", *bias, x.scalar_type(), weight.size(0));
  return at::linear(x, weight, bias);
}

}  // namespace dm::kernels
