#include "kernels/cross_entropy/cross_entropy_reference.h"

#include <ATen/ATen.h>

namespace dm::kernels {

CrossEntropy linear_cross_entropy_reference(const at::Tensor& h, const at::Tensor& weight,
                                            const at::Tensor& targets, const at::Tensor& mask) {
  const at::Tensor counted = mask.to(at::kBool);
  const at::Tensor logits = at::matmul(h, weight.t());  // [T, V]
  const at::Tensor chosen =
      at::where(counted, targets, at::zeros({}, targets.options())).unsqueeze(1);         // [T, 1]
  const at::Tensor nll = at::logsumexp(logits, 1) - logits.gather(1, chosen).squeeze(1);  // [T]
  const at::Tensor per_target = at::where(counted, nll, at::zeros({}, nll.options()));
  return {per_target.sum(), per_target.detach()};
}

}  // namespace dm::kernels
