#include "kernels/norm/norm.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/norm/norm_reference.h"

namespace dm::kernels {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  DM_CHECK_FLOATING("rms_norm", x);
  DM_CHECK(x.dim() >= 1, "rms_norm: x is a scalar, expected [.., D]");
  DM_CHECK_SHAPE("rms_norm", weight, x.scalar_type(), x.size(-1));
  return rms_norm_reference(x, weight, eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  DM_CHECK_FLOATING("layer_norm", x);
  DM_CHECK(x.dim() >= 1, "layer_norm: x is a scalar, expected [.., D]");
  DM_CHECK_SHAPE("layer_norm", weight, x.scalar_type(), x.size(-1));
  DM_CHECK_SHAPE("layer_norm", bias, x.scalar_type(), x.size(-1));
  return layer_norm_reference(x, weight, bias, eps);
}

}  // namespace dm::kernels
