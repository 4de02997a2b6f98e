// Tasks of the causal convolution: kernels/conv/causal_conv_cpu.h.

#include "kernels/conv/causal_conv_cpu.h"
#include "kernels/simd/row.h"

namespace dm::kernels::DM_SIMD_LEVEL {
namespace {

inline constexpr int64_t kMostTaps = 16;  // held in a list; wider kernels walk it in several rounds

/// Token `t` of a row, t >= -(W-1), or nullptr where there is none.
template <class T>
const T* token(const ConvInput<T>& in, int64_t row, int64_t t) {
  if (t >= 0) return in.x + row * in.x_row + t * in.x_token;
  return in.initial ? in.initial + (row * (in.width - 1) + in.width - 1 + t) * in.channels : nullptr;
}

/// Whether token `source` <= t takes part in the sum of token t.
template <class T>
bool in_document(const ConvInput<T>& in, int64_t row, int64_t source, int64_t t) {
  const int32_t* ids = in.seq_idx + row * in.length;
  return ids[source < 0 ? 0 : source] == ids[t];
}

/// The terms of token t's sum: rows of x and of the taps.
template <class T>
struct Terms {
  int64_t count = 0;
  const T* x[kMostTaps];
  const T* tap[kMostTaps];
  int64_t next;  // tap to go on from

  Terms(const ConvInput<T>& in, int64_t row, int64_t t, int64_t first) : next(first) {
    for (; next < in.width && count < kMostTaps; ++next) {
      const int64_t source = t - (in.width - 1) + next;
      const T* from = token(in, row, source);
      if (!from || !in_document(in, row, source, t)) continue;
      x[count] = from;
      tap[count++] = in.taps + next * in.channels;
    }
  }
};

template <int Count, class T>
void add_terms(const Terms<T>& terms, const T* start, int64_t begin, int64_t end, T* u) {
  for_row<T>(begin, end, [&](int64_t c, auto access) {
    Vec<T> sum = access.get(start + c);
    const int64_t count = Count > 0 ? Count : terms.count;
#pragma GCC unroll 4
    for (int64_t i = 0; i < count; ++i) sum += access.get(terms.tap[i] + c) * access.get(terms.x[i] + c);
    access.put(u + c - begin, sum);
  });
}

/// u_t of channels [begin, end) -> u[0 ..].
template <class T>
void convolve(const ConvInput<T>& in, int64_t row, int64_t t, int64_t begin, int64_t end, T* u) {
  const T* start = in.bias;
  for (int64_t next = 0; next < in.width;) {
    const Terms<T> terms(in, row, t, next);
    switch (terms.count) {
      case 4: add_terms<4>(terms, start, begin, end, u); break;
      default: add_terms<0>(terms, start, begin, end, u);
    }
    next = terms.next;
    start = u - begin;
  }
}

}  // namespace

template <class T>
DM_TASK void conv_forward_task(const ConvInput<T>& in, T* y, int64_t row, int64_t token_block,
                               int64_t channel_block) {
  const int64_t begin = channel_block * kConvChannels,
                end = begin + kConvChannels < in.channels ? begin + kConvChannels : in.channels;
  const int64_t first = token_block * kConvTokens,
                last = first + kConvTokens < in.length ? first + kConvTokens : in.length;
  for (int64_t t = first; t < last; ++t) {
    T* to = y + (row * in.length + t) * in.channels + begin;
    convolve(in, row, t, begin, end, to);
    for_row<T>(0, end - begin, [&](int64_t c, auto access) {
      const Vec<T> u = access.get(to + c);
      access.put(to + c, u * sigmoid<T>(u));
    });
  }
}

template <class T>
DM_TASK void conv_backward_task(const ConvInput<T>& in, const ConvGradient<T>& grad, int64_t row,
                                int64_t token_block, int64_t channel_block, T* du) {
  const int64_t begin = channel_block * kConvChannels,
                end = begin + kConvChannels < in.channels ? begin + kConvChannels : in.channels;
  const int64_t count = end - begin;
  const int64_t first = token_block * kConvTokens,
                last = first + kConvTokens < in.length ? first + kConvTokens : in.length;
  const int64_t reach = last + in.width - 1 < in.length ? last + in.width - 1 : in.length;
  const auto du_at = [&](int64_t t) { return du + (t - first) * kConvChannels; };
  for (int64_t t = first; t < reach; ++t) {
    T* to = du_at(t);
    const T* dy = grad.dy + row * grad.dy_row + t * grad.dy_token + begin;
    convolve(in, row, t, begin, end, to);
    for_row<T>(0, count, [&](int64_t c, auto access) {
      const Vec<T> u = access.get(to + c), s = sigmoid<T>(u);
      access.put(to + c, access.get(dy + c) * (s * (T(1) + u * (T(1) - s))));
    });
  }

  // dx_s = Σ_k tap_k du_{s+(W-1)-k}, and the same for the tokens before the row, which the first block
  // finishes.
  const int64_t before = token_block == 0 && grad.dinitial ? in.width - 1 : 0;
  for (int64_t s = first - before; s < last; ++s) {
    T* dx = s >= 0 ? grad.dx + (row * in.length + s) * in.channels
                   : grad.dinitial + (row * (in.width - 1) + in.width - 1 + s) * in.channels;
    for_row<T>(begin, end, [&](int64_t c, auto access) { access.put(dx + c, Vec<T>{}); });
    for (int64_t k = in.width - 1; k >= 0; --k) {
      const int64_t t = s + in.width - 1 - k;
      if (t < 0 || t >= reach || !in_document(in, row, s, t)) continue;
      const T* tap = in.taps + k * in.channels;
      const T* from = du_at(t) - begin;
      for_row<T>(begin, end, [&](int64_t c, auto access) {
        access.put(dx + c, access.get(dx + c) + access.get(tap + c) * access.get(from + c));
      });
    }
  }

  double* shares = grad.shares + (row * in.token_blocks() + token_block) * (in.width + 1) * in.channels;
  for (int64_t k = 0; k <= in.width; ++k)
    for_row<T>(begin, end, [&](int64_t c, auto access) {
      Vec<T> sum{};
      for (int64_t t = first; t < last; ++t) {
        const Vec<T> d = access.get(du_at(t) - begin + c);
        if (k == in.width) {
          sum += d;
          continue;
        }
        const int64_t source = t - (in.width - 1) + k;
        const T* x = token(in, row, source);
        if (x && in_document(in, row, source, t)) sum += d * access.get(x + c);
      }
      const int64_t lanes = end - c < kLanes<T> ? end - c : kLanes<T>;
      for (int64_t i = 0; i < lanes; ++i) shares[k * in.channels + c + i] = static_cast<double>(sum[i]);
    });
}

#define DM_INSTANTIATE(T)                                                                                  \
  template void conv_forward_task(const ConvInput<T>&, T*, int64_t, int64_t, int64_t);                     \
  template void conv_backward_task(const ConvInput<T>&, const ConvGradient<T>&, int64_t, int64_t, int64_t, \
                                   T*);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels::DM_SIMD_LEVEL
