// Tasks of the norms: kernels/norm/norm_cpu.h.

#include "kernels/norm/norm_cpu.h"
#include "kernels/simd/row.h"

namespace dm::kernels::DM_SIMD_LEVEL {

template <class T>
DM_TASK void norm_forward_task(const NormInput<T>& in, T* y, T* mean, T* root, int64_t block) {
  const int64_t first = block * kNormRows, last = first + kNormRows < in.rows ? first + kNormRows : in.rows,
                width = in.width;
  for (int64_t row = first; row < last; ++row) {
    const T* x = in.x + row * in.x_stride;
    T centre = 0;
    if (in.bias) {
      centre =
          static_cast<T>(sum_row<T>(0, width, [&](int64_t i, auto access) { return access.get(x + i); }) /
                         static_cast<double>(width));
      mean[row] = centre;
    }
    const double squares = sum_row<T>(0, width, [&](int64_t i, auto access) {
      const Vec<T> centred = access.get(x + i) - centre;
      return access.keep(centred * centred);
    });
    const T r = static_cast<T>(1 / __builtin_sqrt(squares / static_cast<double>(width) + in.eps));
    root[row] = r;
    T* to = y + row * width;
    for_row<T>(0, width, [&](int64_t i, auto access) {
      const Vec<T> normed = (access.get(x + i) - centre) * r * access.get(in.weight + i);
      access.put(to + i, in.bias ? normed + access.get(in.bias + i) : normed);
    });
  }
}

template <class T>
DM_TASK void norm_backward_task(const NormInput<T>& in, const NormGradient<T>& grad, int64_t block,
                                T* scratch) {
  const int64_t first = block * kNormRows, last = first + kNormRows < in.rows ? first + kNormRows : in.rows,
                width = in.width;
  T *dweight = scratch, *dbias = scratch + width;
  for_row<T>(0, 2 * width, [&](int64_t i, auto access) { access.put(scratch + i, Vec<T>{}); });
  for (int64_t row = first; row < last; ++row) {
    const T* x = in.x + row * in.x_stride;
    const T* dy = grad.dy + row * grad.dy_stride;
    const T centre = in.bias ? grad.mean[row] : T(0), r = grad.root[row];
    // With n = (x - mean) r and dn = weight dy: dx = r (dn - mean(dn) - n mean(dn n)), without mean(dn) for
    // rms_norm.
    const double inverse = 1 / static_cast<double>(width);
    const T along = static_cast<T>(inverse * sum_row<T>(0, width, [&](int64_t i, auto access) {
                                     return (access.get(x + i) - centre) * r * access.get(in.weight + i) *
                                            access.get(dy + i);
                                   }));
    T shift = 0;
    if (in.bias)
      shift = static_cast<T>(inverse * sum_row<T>(0, width, [&](int64_t i, auto access) {
                               return access.get(in.weight + i) * access.get(dy + i);
                             }));
    T* dx = grad.dx + row * width;
    for_row<T>(0, width, [&](int64_t i, auto access) {
      const Vec<T> n = (access.get(x + i) - centre) * r, d = access.get(dy + i);
      access.put(dx + i, r * (access.get(in.weight + i) * d - shift - n * along));
      access.put(dweight + i, access.get(dweight + i) + n * d);
      if (in.bias) access.put(dbias + i, access.get(dbias + i) + d);
    });
  }
  double* shares = grad.shares + block * 2 * width;
  for (int64_t i = 0; i < 2 * width; ++i) shares[i] = static_cast<double>(scratch[i]);
}

#define DM_INSTANTIATE(T)                                                    \
  template void norm_forward_task(const NormInput<T>&, T*, T*, T*, int64_t); \
  template void norm_backward_task(const NormInput<T>&, const NormGradient<T>&, int64_t, T*);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels::DM_SIMD_LEVEL
