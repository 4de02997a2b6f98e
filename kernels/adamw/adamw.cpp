#include "kernels/adamw/adamw.h"

#include <cmath>

#include "core/error.h"

namespace dm::kernels {

template <class T>
void adamw(T* weight, T* m, T* v, const T* grad, int64_t count, const AdamWStep& step) {
  DM_CHECK(step.step >= 1, "adamw: step {} is not counted from 1", step.step);
  const auto beta1 = static_cast<T>(step.beta1), beta2 = static_cast<T>(step.beta2),
             eps = static_cast<T>(step.eps);
  const auto scale = static_cast<T>(step.grad_scale), keep = static_cast<T>(1 - step.lr * step.weight_decay);
  const auto rate = static_cast<T>(step.lr / (1 - std::pow(step.beta1, step.step)));
  const auto root = static_cast<T>(std::sqrt(1 - std::pow(step.beta2, step.step)));
  for (int64_t i = 0; i < count; ++i) {
    const T g = scale * grad[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * (g * g);
    weight[i] = keep * weight[i] - rate * (m[i] / (std::sqrt(v[i]) / root + eps));
  }
}

template void adamw(float*, float*, float*, const float*, int64_t, const AdamWStep&);
template void adamw(double*, double*, double*, const double*, int64_t, const AdamWStep&);

}  // namespace dm::kernels
