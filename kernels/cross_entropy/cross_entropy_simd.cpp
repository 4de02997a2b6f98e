// Rows of the loss: kernels/cross_entropy/cross_entropy_cpu.h.

#include "kernels/cross_entropy/cross_entropy_cpu.h"
#include "kernels/simd/row.h"

namespace dm::kernels::DM_SIMD_LEVEL {

template <class T>
DM_TASK double cross_entropy_row(T* logits, int64_t vocabulary, int64_t target, bool gradient) {
  const double chosen = static_cast<double>(logits[target]);
  // NaN need not be found by the maximum: it reaches the sum below.
  Vec<T> most = splat<T>(logits[0]);
  for_row<T>(0, vocabulary, [&](int64_t i, auto access) {
    const Vec<T> v = access.keep(access.get(logits + i), most);
    most = v > most ? v : most;
  });
  const T largest = max_lanes<T>(most);
  const double sum = sum_row<T>(0, vocabulary, [&](int64_t i, auto access) {
    const Vec<T> e = access.keep(exp_nonpositive<T>(access.get(logits + i) - largest));
    if (gradient) access.put(logits + i, e);
    return e;
  });
  if (gradient) {
    const T inverse = static_cast<T>(1 / sum);
    for_row<T>(0, vocabulary,
               [&](int64_t i, auto access) { access.put(logits + i, access.get(logits + i) * inverse); });
    logits[target] -= T(1);
  }
  return __builtin_log(sum) + (static_cast<double>(largest) - chosen);
}

template double cross_entropy_row(float*, int64_t, int64_t, bool);
template double cross_entropy_row(double*, int64_t, int64_t, bool);

}  // namespace dm::kernels::DM_SIMD_LEVEL
