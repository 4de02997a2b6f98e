#pragma once
// What one step of AdamW has in common for all elements, in the type of the update. The CPU and the GPU take
// their factors from here, and so give the same bits.

#include <cmath>

#include "kernels/adamw/adamw.h"

namespace dm::kernels {

template <class T>
struct AdamWFactors {
  T beta1, beta2, eps, grad_scale;
  T keep;  // 1 - lr weight_decay
  T rate;  // lr / (1 - beta1^step)
  T root;  // sqrt(1 - beta2^step)
};

template <class T>
AdamWFactors<T> adamw_factors(const AdamWStep& step) {
  const auto power = static_cast<double>(step.step);
  return {static_cast<T>(step.beta1),
          static_cast<T>(step.beta2),
          static_cast<T>(step.eps),
          static_cast<T>(step.grad_scale),
          static_cast<T>(1 - step.lr * step.weight_decay),
          static_cast<T>(step.lr / (1 - std::pow(step.beta1, power))),
          static_cast<T>(std::sqrt(1 - std::pow(step.beta2, power)))};
}

}  // namespace dm::kernels
