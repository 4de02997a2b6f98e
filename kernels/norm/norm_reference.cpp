#include "kernels/norm/norm_reference.h"

#include <ATen/ATen.h>

namespace dm::kernels {

at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return weight * x * at::rsqrt((x * x).mean(-1, true) + eps);
}

at::Tensor layer_norm_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                double eps) {
  const at::Tensor centred = x - x.mean(-1, true);
  return weight * centred * at::rsqrt((centred * centred).mean(-1, true) + eps) + bias;
}

}  // namespace dm::kernels
