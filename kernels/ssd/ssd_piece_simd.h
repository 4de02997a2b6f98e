#pragma once
// What the forward and backward tasks of the chunked scan share: a piece's inputs in padded scratch, and its
// decays.

#include "kernels/simd/tile.h"
#include "kernels/ssd/ssd_cpu.h"
#include "kernels/ssd/ssd_simd.h"

namespace dm::kernels::DM_SIMD_LEVEL {

inline constexpr int64_t kTokens = padded(kSsdLongestPiece);

/// Hands out consecutive parts of a task's scratch.
template <class T>
struct Carver {
  T* next;
  T* take(int64_t count) {
    T* part = next;
    next += padded(count);
    return part;
  }
};

/// Extents of a piece's matrices.
struct Extents {
  int64_t tokens, p, n;                       // as they are
  int64_t padded_tokens, padded_p, padded_n;  // in scratch
  Extents(int64_t length, int64_t head_dim, int64_t d_state)
      : tokens(length),
        p(head_dim),
        n(d_state),
        padded_tokens(padded(length)),
        padded_p(padded(head_dim)),
        padded_n(padded(d_state)) {}
};

/// to [padded rows, padded width] = the array's rows [rows, width], zeros around them.
template <class T>
void copy_padded(const T* from, int64_t from_stride, int64_t rows, int64_t width, T* to, int64_t padded_rows,
                 int64_t padded_width) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; ++i) to[r * padded_width + i] = from[r * from_stride + i];
    for (int64_t i = width; i < padded_width; ++i) to[r * padded_width + i] = 0;
  }
  for (int64_t i = rows * padded_width; i < padded_rows * padded_width; ++i) to[i] = 0;
}

/// A head's steps and decays over a piece. l_t = Δ_t a <= 0; their running sum is kept in two parts of type
/// T, high + low, so that differences of nearby sums are exact to T's precision however far the sum has come.
template <class T>
struct Decays {
  T dt[kTokens];    // Δ_t; 0 beyond the piece
  T high[kTokens];  // Σ_{r<=t} l_r; beyond the piece as at its last token
  T low[kTokens];
  T from_start[kTokens];  // α_t = exp(Σ_{r<=t} l_r)
  T to_end[kTokens];      // exp(Σ_{r>t} l_r)
  T weight[kTokens];      // w_t = Δ_t exp(Σ_{r>t} l_r); 0 beyond the piece
  T total;                // β

  /// Below this exp(l) is 0 in T and its square; keeping l above it keeps the running sum exact enough.
  static constexpr double kLeast = sizeof(T) == 4 ? -128.0 : -1024.0;

  void load(const T* steps, int64_t stride, T a, int64_t length) {
    const int64_t end = padded(length);
    double sum = 0;
    for (int64_t t = 0; t < end; ++t) {
      dt[t] = t < length ? steps[t * stride] : T(0);
      const double l = static_cast<double>(dt[t]) * static_cast<double>(a);
      sum += l < kLeast ? kLeast : l;
      high[t] = static_cast<T>(sum);
      low[t] = static_cast<T>(sum - static_cast<double>(high[t]));
    }
    for (int64_t t = 0; t < end; t += kLanes<T>) {
      store(from_start + t, exp_nonpositive<T>(part(high + t) + part(low + t)));
      const Vec<T> rest = (high[end - 1] - part(high + t)) + (low[end - 1] - part(low + t));
      const Vec<T> end_decay = exp_nonpositive<T>(rest);
      store(to_end + t, end_decay);
      store(weight + t, part(dt + t) * end_decay);
    }
    total = from_start[length - 1];
  }

  /// exp(Σ_{s<r<=t} l_r) for the lanes t, t + 1, .. of a vector; 0 where t < s or t is beyond the piece.
  DM_INLINE Vec<T> between(int64_t s, int64_t t, int64_t length) const {
    const Vec<T> sum = (part(high + t) - high[s]) + (part(low + t) - low[s]);
    const IntVec<T> inside = lanes_from<T>(s - t) & ~lanes_from<T>(length - t);
    const Vec<T> masked =
        inside ? sum : splat<T>(ExpConstants<T>::least - 1);  // masked before the exponential
    return exp_nonpositive<T>(masked);
  }

 private:
  DM_INLINE static Vec<T> part(const T* from) { return DM_SIMD_LEVEL::load(from); }
};

/// C Bᵀ of a piece, transposed: to[s, t] = C_t · B_s for the columns t that tiles of rows s <= t read.
template <class T>
void multiply_c_b(const Extents& e, const T* b, const T* c_transposed, T* to) {
  for_tiles<T>(
      e.tokens, e.padded_tokens, [](int64_t s) { return s / kBlock * kBlock; },
      [&](auto& tile, int64_t s, int64_t t) {
        tile.add_product(e.n, b + s * e.padded_n, e.padded_n, 1, c_transposed + t, e.padded_tokens);
        tile.store_to(to + s * e.padded_tokens + t, e.padded_tokens);
      });
}

/// Where a piece's state, entering or leaving, stands in the array of slots.
template <class T>
T* slot(T* states, const SsdInput<T>& in, int64_t index, int64_t head) {
  return states + (index * in.heads + head) * padded(in.d_state) * padded(in.head_dim);
}

/// Gradient of the state that piece `index` of `row` leaves, or nullptr where it is zero.
template <class T>
const T* leaving_gradient(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                          const SsdInputGradient<T>& din, int64_t row, int64_t index, int64_t head) {
  if (index + 1 == in.rows[row + 1])
    return dout.final_state ? slot(din.states, in, din.slots + row, head) : nullptr;
  const int64_t next = in.pieces[index + 1].carried;
  return next >= 0 ? slot(din.states, in, next, head) : nullptr;
}

/// [P, N] -> the slot's [padded N, padded P].
template <class T>
void state_to_slot(const T* state, int64_t p, int64_t n, T* to) {
  const int64_t padded_p = padded(p);
  for (int64_t i = 0; i < padded(n) * padded_p; ++i) to[i] = 0;
  for (int64_t j = 0; j < p; ++j)
    for (int64_t i = 0; i < n; ++i) to[i * padded_p + j] = state[j * n + i];
}
template <class T>
void slot_to_state(const T* from, int64_t p, int64_t n, T* state) {
  const int64_t padded_p = padded(p);
  for (int64_t j = 0; j < p; ++j)
    for (int64_t i = 0; i < n; ++i) state[j * n + i] = from[i * padded_p + j];
}

}  // namespace dm::kernels::DM_SIMD_LEVEL
