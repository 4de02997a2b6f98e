#include "kernels/adamw/adamw_reference.h"

#include <cmath>

namespace dm::kernels {

void adamw_reference(double* weight, double* m, double* v, const double* grad, int64_t count,
                     const AdamWStep& step) {
  for (int64_t i = 0; i < count; ++i) {
    const double g = step.grad_scale * grad[i];
    weight[i] *= 1 - step.lr * step.weight_decay;
    m[i] = step.beta1 * m[i] + (1 - step.beta1) * g;
    v[i] = step.beta2 * v[i] + (1 - step.beta2) * g * g;
    const double first = m[i] / (1 - std::pow(step.beta1, step.step));
    const double second = v[i] / (1 - std::pow(step.beta2, step.step));
    weight[i] -= step.lr * first / (std::sqrt(second) + step.eps);
  }
}

}  // namespace dm::kernels
