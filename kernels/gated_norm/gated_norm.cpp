#include "kernels/gated_norm/gated_norm.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/gated_norm/gated_norm_reference.h"

namespace dm::kernels {

at::Tensor gated_norm(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight, int64_t spans,
                      const std::optional<at::Tensor>& scale, double eps) {
  DM_CHECK_FLOATING("gated_norm", y);
  const at::ScalarType dtype = y.scalar_type();
  DM_CHECK_SHAPE("gated_norm", y, dtype, -1, -1, -1);
  const int64_t width = y.size(2);
  DM_CHECK_SHAPE("gated_norm", z, dtype, y.size(0), y.size(1), width);
  DM_CHECK_SHAPE("gated_norm", weight, dtype, width);
  DM_CHECK(spans >= 1 && width % spans == 0, "gated_norm: {} spans do not divide E = {}", spans, width);
  if (scale) {
    DM_CHECK_FLOATING("gated_norm", *scale);
    const bool fits = scale->scalar_type() == dtype && scale->dim() >= 1 && scale->dim() <= 3 &&
                      scale->size(-1) >= 1 && width % scale->size(-1) == 0 &&
                      at::is_expandable_to(scale->sizes(), {y.size(0), y.size(1), scale->size(-1)});
    DM_CHECK(fits,
             "gated_norm: scale is {}, expected y's dtype and a shape broadcastable to [{}, {}, S], S a "
             "divisor of {}",
             describe(*scale), y.size(0), y.size(1), width);
  }
  return gated_norm_reference(y, z, weight, spans, scale, eps);
}

}  // namespace dm::kernels
