// The update of kernels/adamw/adamw.h. Compiled without fused multiply-add (kernels/CMakeLists.txt), so that
// every level and every place in an array gives the same bits.

#include "kernels/adamw/adamw_cpu.h"

namespace dm::kernels::DM_SIMD_LEVEL {

template <class T>
T root(T value) {
  if constexpr (sizeof(T) == sizeof(float))
    return __builtin_sqrtf(value);
  else
    return __builtin_sqrt(value);
}

template <class T>
void adamw_task(T* __restrict weight, T* __restrict m, T* __restrict v, const T* __restrict grad,
                int64_t count, const AdamWFactors<T>& factors) {
  const AdamWFactors<T> f = factors;
  for (int64_t i = 0; i < count; ++i) {
    const T g = f.grad_scale * grad[i];
    const T first = f.beta1 * m[i] + (1 - f.beta1) * g;
    const T second = f.beta2 * v[i] + (1 - f.beta2) * (g * g);
    m[i] = first;
    v[i] = second;
    weight[i] = f.keep * weight[i] - f.rate * (first / (root(second) / f.root + f.eps));
  }
}

template void adamw_task(float*, float*, float*, const float*, int64_t, const AdamWFactors<float>&);
template void adamw_task(double*, double*, double*, const double*, int64_t, const AdamWFactors<double>&);

}  // namespace dm::kernels::DM_SIMD_LEVEL
