#include "kernels/shares.h"

#include <algorithm>

#include "core/parallel.h"

namespace dm::kernels {

template <class T>
void sum_shares(const double* shares, int64_t count, int64_t width, T* to) {
  constexpr int64_t kColumns = 256;  // of a task: 2 KiB of each share
  parallel_for((width + kColumns - 1) / kColumns, [&](int64_t task) {
    const int64_t begin = task * kColumns, columns = std::min(kColumns, width - begin);
    double sums[kColumns] = {};
    for (int64_t k = 0; k < count; ++k)
      for (int64_t i = 0; i < columns; ++i) sums[i] += shares[k * width + begin + i];
    for (int64_t i = 0; i < columns; ++i) to[begin + i] = static_cast<T>(sums[i]);
  });
}

template void sum_shares(const double*, int64_t, int64_t, float*);
template void sum_shares(const double*, int64_t, int64_t, double*);

}  // namespace dm::kernels
