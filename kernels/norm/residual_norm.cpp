#include "kernels/norm/residual_norm.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/norm/norm.h"
#include "kernels/norm/residual_norm_cuda.h"

namespace dm::kernels {

ResidualNorm residual_norm(const at::Tensor& h, const at::Tensor& y, const std::optional<at::Tensor>& subln,
                           const at::Tensor& weight, double eps) {
  DM_CHECK_FLOATING("residual_norm", h);
  DM_CHECK_FLOATING("residual_norm", y);
  const at::ScalarType stream = h.scalar_type(), dtype = y.scalar_type();
  DM_CHECK(
      h.dim() >= 1 && h.sizes() == y.sizes() && (stream == dtype || (h.is_cuda() && stream == at::kFloat)),
      "residual_norm: h is {} and y {}: expected one shape [.., D] and one dtype, or on a GPU a float32 h",
      describe(h), describe(y));
  if (subln) DM_CHECK_SHAPE("residual_norm", *subln, parameter_dtype(y), y.size(-1));
  DM_CHECK_SHAPE("residual_norm", weight, parameter_dtype(y), y.size(-1));
  if (residual_norm_fuses(h, y)) return residual_norm_cuda(h, y, subln, weight, eps);
  const at::ScalarType wide = parameter_dtype(y);
  const at::Tensor added = subln ? rms_norm(y, *subln, eps, wide) : y;
  const at::Tensor sum = (h.to(wide) + added).to(stream);
  return {sum, rms_norm(sum, weight, eps, dtype)};
}

}  // namespace dm::kernels
