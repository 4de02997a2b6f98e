// Tasks of the gated norm: kernels/gated_norm/gated_norm_cpu.h.

#include "kernels/gated_norm/gated_norm_cpu.h"
#include "kernels/simd/row.h"

namespace dm::kernels::DM_SIMD_LEVEL {
namespace {

template <class T>
const T* at_token(const TokenRows<const T>& array, int64_t length, int64_t token) {
  return array.data + token / length * array.row_stride + token % length * array.token_stride;
}

/// The factor of a section at a token.
template <class T>
T factor(const GatedNormInput<T>& in, int64_t token, int64_t section) {
  if (!in.scale) return T(1);
  return in.scale[token / in.length * in.scale_row + token % in.length * in.scale_token +
                  section * in.scale_section];
}

}  // namespace

template <class T>
DM_TASK void gated_norm_forward_task(const GatedNormInput<T>& in, T* out, T* root, int64_t block) {
  const int64_t first = block * kGatedRows,
                last = first + kGatedRows < in.tokens() ? first + kGatedRows : in.tokens();
  const int64_t span_width = in.width / in.spans;
  for (int64_t token = first; token < last; ++token) {
    const T *y = at_token(in.y, in.length, token), *z = at_token(in.z, in.length, token);
    T* to = out + token * in.width;
    T* roots = root + token * in.spans;
    for (int64_t span = 0; span < in.spans; ++span) {
      const double squares =
          sum_row<T>(span * span_width, (span + 1) * span_width, [&](int64_t e, auto access) {
            const Vec<T> gate = access.get(z + e), g = access.get(y + e) * gate * sigmoid<T>(gate);
            access.put(to + e, g);
            return g * g;
          });
      roots[span] = static_cast<T>(1 / __builtin_sqrt(squares / static_cast<double>(span_width) + in.eps));
    }
    for (const GatedSegment* s = in.segments; s < in.segments + in.segment_count; ++s) {
      const T r = roots[s->span], scale = factor(in, token, s->section);
      for_row<T>(s->begin, s->end, [&](int64_t e, auto access) {
        access.put(to + e, access.get(to + e) * r * (access.get(in.weight + e) * scale));
      });
    }
  }
}

// With n = g r, dn = dout weight scale and k = mean over the span of dn n:
//   dg = r (dn - n k),  dy = dg z σ(z),  dz = dg y σ(z) (1 + z (1 - σ(z))),  dweight = Σ dout n scale, dscale
//   = Σ_section dout n weight
template <class T>
DM_TASK void gated_norm_backward_task(const GatedNormInput<T>& in, const GatedNormGradient<T>& grad,
                                      int64_t block, T* scratch) {
  const int64_t first = block * kGatedRows,
                last = first + kGatedRows < in.tokens() ? first + kGatedRows : in.tokens();
  T *dweight = scratch, *n = dweight + in.width, *gate = n + in.width, *along = gate + in.width;
  for_row<T>(0, in.width, [&](int64_t e, auto access) { access.put(dweight + e, Vec<T>{}); });
  for (int64_t token = first; token < last; ++token) {
    const T *y = at_token(in.y, in.length, token), *z = at_token(in.z, in.length, token);
    const T* dout = at_token(grad.dout, in.length, token);
    const T* roots = grad.root + token * in.spans;
    for (int64_t span = 0; span < in.spans; ++span) along[span] = 0;
    if (grad.dscale)
      for (int64_t section = 0; section < in.sections; ++section)
        grad.dscale[token * in.sections + section] = 0;
    for (const GatedSegment* s = in.segments; s < in.segments + in.segment_count; ++s) {
      const T r = roots[s->span], scale = factor(in, token, s->section);
      const double pull = sum_row<T>(s->begin, s->end, [&](int64_t e, auto access) {
        const Vec<T> open = access.get(z + e), sigma = sigmoid<T>(open),
                     normed = access.get(y + e) * open * sigma * r;
        const Vec<T> d = access.get(dout + e) * normed;
        access.put(gate + e, sigma);
        access.put(n + e, normed);
        access.put(dweight + e, access.get(dweight + e) + d * scale);
        return d * access.get(in.weight + e);
      });
      if (grad.dscale) grad.dscale[token * in.sections + s->section] += pull;
      along[s->span] += static_cast<T>(pull * static_cast<double>(scale) * static_cast<double>(in.spans) /
                                       static_cast<double>(in.width));
    }
    T *dy = grad.dy + token * in.width, *dz = grad.dz + token * in.width;
    for (const GatedSegment* s = in.segments; s < in.segments + in.segment_count; ++s) {
      const T r = roots[s->span], scale = factor(in, token, s->section), k = along[s->span];
      for_row<T>(s->begin, s->end, [&](int64_t e, auto access) {
        const Vec<T> dn = access.get(dout + e) * (access.get(in.weight + e) * scale);
        const Vec<T> dg = r * (dn - access.get(n + e) * k);
        const Vec<T> open = access.get(z + e), sigma = access.get(gate + e), silu = open * sigma;
        access.put(dy + e, dg * silu);
        access.put(dz + e, dg * access.get(y + e) * (sigma + silu * (T(1) - sigma)));
      });
    }
  }
  double* shares = grad.shares + block * in.width;
  for (int64_t e = 0; e < in.width; ++e) shares[e] = static_cast<double>(dweight[e]);
}

#define DM_INSTANTIATE(T)                                                           \
  template void gated_norm_forward_task(const GatedNormInput<T>&, T*, T*, int64_t); \
  template void gated_norm_backward_task(const GatedNormInput<T>&, const GatedNormGradient<T>&, int64_t, T*);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels::DM_SIMD_LEVEL
