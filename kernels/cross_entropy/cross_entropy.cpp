#include "kernels/cross_entropy/cross_entropy.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/cross_entropy/cross_entropy_reference.h"

namespace dm::kernels {

CrossEntropy linear_cross_entropy(const at::Tensor& h, const at::Tensor& weight, const at::Tensor& targets,
                                  const at::Tensor& mask) {
  DM_CHECK_FLOATING("linear_cross_entropy", h);
  DM_CHECK_SHAPE("linear_cross_entropy", h, h.scalar_type(), -1, -1);
  DM_CHECK_SHAPE("linear_cross_entropy", weight, h.scalar_type(), -1, h.size(1));
  DM_CHECK_SHAPE("linear_cross_entropy", targets, at::kLong, h.size(0));
  DM_CHECK_SHAPE("linear_cross_entropy", mask, at::kByte, h.size(0));
  return linear_cross_entropy_reference(h, weight, targets, mask);
}

}  // namespace dm::kernels
