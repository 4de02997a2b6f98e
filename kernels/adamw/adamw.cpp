#include "kernels/adamw/adamw.h"

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/adamw/adamw_cpu.h"

namespace dm::kernels {

template <class T>
void adamw(T* weight, T* m, T* v, const T* grad, int64_t count, const AdamWStep& step) {
  DM_CHECK(step.step >= 1, "adamw: step is {}, expected at least 1", step.step);
  const AdamWFactors<T> factors = adamw_factors<T>(step);
  constexpr int64_t kElements = 1 << 15;  // of a task: four arrays of it fill a core's second-level cache
  parallel_for((count + kElements - 1) / kElements, [&](int64_t task) {
    const int64_t begin = task * kElements;
    DM_SIMD_CALL(adamw_task<T>)
    (weight + begin, m + begin, v + begin, grad + begin, std::min(kElements, count - begin), factors);
  });
}

template void adamw(float*, float*, float*, const float*, int64_t, const AdamWStep&);
template void adamw(double*, double*, double*, const double*, int64_t, const AdamWStep&);

}  // namespace dm::kernels
