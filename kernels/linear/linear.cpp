#include "kernels/linear/linear.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/linear/linear_cuda.h"

namespace dm::kernels {

at::Tensor linear(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
  const at::Tensor& value = weight.value;
  DM_CHECK_FLOATING("linear", x);
  DM_CHECK(x.dim() >= 1, "linear: x is a scalar, expected [.., I]");
  DM_CHECK_SHAPE("linear", weight.value, x.scalar_type(), -1, x.size(-1));
  if (bias) DM_CHECK_SHAPE("linear", *bias, x.is_cuda() ? at::kFloat : x.scalar_type(), value.size(0));
  if (x.is_cuda()) return linear_cuda(x, weight, bias);
  DM_CHECK(weight.parts.empty(), "linear: on the CPU gradients of weights go through autograd");
  return at::linear(x, value, bias);
}

}  // namespace dm::kernels
