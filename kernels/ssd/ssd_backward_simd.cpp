// Backward tasks of the chunked scan: kernels/ssd/ssd_cpu.h.
//
// With E_ts = exp(Σ_{s<r<=t} l_r), CB_ts = C_t · B_s, z_s = dS_out B_s and u_t = S_in^T C_t (both [P]), over
// one piece and head
//   y_t   = Σ_{s<=t} CB_ts E_ts Δ_s x_s + α_t u_t + D x_t        S_out = β S_in + Σ_s w_s x_s B_sᵀ
// the gradients are, with g_ts = (dy_t · x_s) CB_ts E_ts and k_t = Σ_{r<=t} l_r the running sum of the
// exponents,
//   dx_s  = Σ_{t>=s} CB_ts E_ts Δ_s dy_t + w_s z_s + D dy_s
//   dCB_ts = (dy_t · x_s) E_ts Δ_s        whence dB_s = Σ_t dCB_ts C_t + w_s dS_outᵀ x_s,  dC_t = Σ_s dCB_ts
//   B_s + α_t S_inᵀ dy_t dΔ_s  = Σ_{t>=s} g_ts + (w_s / Δ_s) x_s · z_s + a dl_s          (the last term from
//   l_s = Δ_s a) dk_t  = Σ_{s<t} g_ts Δ_s - Δ_t Σ_{r>t} g_rt + α_t dy_t · u_t - w_t x_t · z_t, and for the
//   last token of the piece
//           also β <dS_out, S_in> + Σ_s w_s x_s · z_s
//   dl_t  = Σ_{r>=t} dk_r,   da = Σ_t Δ_t dl_t,   dD = Σ_t dy_t · x_t

#include "kernels/ssd/ssd_piece_simd.h"

namespace dm::kernels::DM_SIMD_LEVEL {

template <class T>
DM_TASK void ssd_state_gradients_task(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                                      const SsdInputGradient<T>& din, int64_t row, int64_t head, T* scratch) {
  const int64_t group = head / (in.heads / in.groups);
  const int64_t first = in.rows[row], last = in.rows[row + 1] - 1;
  const int64_t state_at = (row * in.heads + head) * in.head_dim * in.d_state;
  Carver<T> carve{scratch};
  T* weighted = carve.take(kTokens * padded(in.head_dim));  // α_t dy_t
  T* c = carve.take(kTokens * padded(in.d_state));
  if (dout.final_state)
    state_to_slot(dout.final_state + state_at, in.head_dim, in.d_state,
                  slot(din.states, in, din.slots + row, head));
  for (int64_t i = last; i >= first; --i) {
    const SsdPiece& piece = in.pieces[i];
    if (piece.carried < 0) continue;  // no state entered
    const Extents e(piece.length, in.head_dim, in.d_state);
    Decays<T> decays;
    decays.load(in.dt.at(row, piece.begin, head), in.dt.token_stride, in.a[head], e.tokens);
    copy_padded(dout.y.at(row, piece.begin, head), dout.y.token_stride, e.tokens, e.p, weighted, e.tokens,
                e.padded_p);
    for (int64_t t = 0; t < e.tokens; ++t)
      for (int64_t j = 0; j < e.padded_p; ++j) weighted[t * e.padded_p + j] *= decays.from_start[t];
    copy_padded(in.c.at(row, piece.begin, group), in.c.token_stride, e.tokens, e.n, c, e.tokens, e.padded_n);
    const T* leaving = leaving_gradient(in, dout, din, row, i, head);
    T* entering = slot(din.states, in, piece.carried, head);
    for_tiles<T>(e.padded_n, e.padded_p, [&](auto& tile, int64_t n, int64_t p) {
      const int64_t at = n * e.padded_p + p;
      if (leaving)
        tile.each([&](Vec<T>, int r, int column) {
          return decays.total * load(leaving + at + r * e.padded_p + column);
        });
      tile.add_product(e.tokens, c + n, 1, e.padded_n, weighted + p, e.padded_p);
      tile.store_to(entering + at, e.padded_p);
    });
  }
  if (!din.initial_state) return;
  T* initial = din.initial_state + state_at;
  if (in.pieces[first].carried >= 0)
    slot_to_state(slot(din.states, in, in.pieces[first].carried, head), in.head_dim, in.d_state, initial);
  else
    for (int64_t i = 0; i < in.head_dim * in.d_state; ++i) initial[i] = 0;
}

namespace {

/// Matrices of one (piece, group), and sums over its heads.
template <class T>
struct GroupScratch {
  T *b, *c, *b_transposed, *c_transposed;    // [T, N] twice, [N, T] twice
  T* cb;                                     // [s, t]
  T* dcb;                                    // [s, t], summed over heads
  T *db, *dc;                                // [N, T]: the parts through the states, summed over heads
  T *mixing, *dots;                          // [s, t] of one head: CB E Δ, and dy_t · x_s
  T *x, *dy, *x_transposed, *dy_transposed;  // [T, P] twice, [P, T] twice
  GroupScratch(T* scratch, const Extents& e) {
    Carver<T> carve{scratch};
    for (T** matrix : {&b, &c, &b_transposed, &c_transposed, &db, &dc})
      *matrix = carve.take(e.padded_tokens * e.padded_n);
    for (T** matrix : {&cb, &dcb, &mixing, &dots}) *matrix = carve.take(e.padded_tokens * e.padded_tokens);
    for (T** matrix : {&x, &dy, &x_transposed, &dy_transposed})
      *matrix = carve.take(e.padded_tokens * e.padded_p);
  }
};

/// A head's gradients of Δ and of the running sum k, by token.
struct TimeGradients {
  double dt[kTokens], k[kTokens];
};

/// dots[s, t] = dy_t · x_s for t >= s.
template <class T>
void multiply_dy_x(const Extents& e, const GroupScratch<T>& m) {
  for_tiles<T>(
      e.tokens, e.padded_tokens, [](int64_t s) { return s / kBlock * kBlock; },
      [&](auto& tile, int64_t s, int64_t t) {
        tile.add_product(e.p, m.x + s * e.padded_p, e.padded_p, 1, m.dy_transposed + t, e.padded_tokens);
        tile.store_to(m.dots + s * e.padded_tokens + t, e.padded_tokens);
      });
}

/// What passes from token to token inside the piece: mixing, dcb and the shares of Δ and k.
template <class T>
void within_piece(const Extents& e, const Decays<T>& decays, const GroupScratch<T>& m, TimeGradients& grad) {
  alignas(64) T received[kTokens] = {};  // Σ_{s<t} g_ts Δ_s
  for (int64_t s = 0; s < e.tokens; ++s) {
    const T dt = decays.dt[s];
    Vec<T> sent{};  // Σ_{t>s} g_ts
    for (int64_t t = s / kBlock * kBlock; t < e.padded_tokens; t += kLanes<T>) {
      const int64_t at = s * e.padded_tokens + t;
      const Vec<T> decay = decays.between(s, t, e.tokens), cb = load(m.cb + at), dot = load(m.dots + at);
      const Vec<T> mixed = cb * decay;
      store(m.mixing + at, mixed * dt);
      store(m.dcb + at, load(m.dcb + at) + dot * decay * dt);
      // A token's effect on itself passes through no decay: it is left out here, so that it need not cancel
      // below.
      const Vec<T> g = lanes_from<T>(s + 1 - t) ? dot * mixed : Vec<T>{};
      sent += g;
      store(received + t, load(received + t) + g * dt);
    }
    const T total = sum_lanes<T>(sent),
            itself = m.dots[s * e.padded_tokens + s] * m.cb[s * e.padded_tokens + s];
    grad.dt[s] = static_cast<double>(total) + static_cast<double>(itself);
    grad.k[s] = -static_cast<double>(dt) * static_cast<double>(total);
  }
  for (int64_t t = 0; t < e.tokens; ++t) grad.k[t] += static_cast<double>(received[t]);
}

/// The state that entered: its share of dC, and of k through α.
template <class T>
void through_entering(const Extents& e, const Decays<T>& decays, const GroupScratch<T>& m, const T* entering,
                      TimeGradients& grad) {
  alignas(64) T received[kTokens] = {};  // α_t dy_t · u_t
  for_tiles<T>(e.padded_n, e.padded_tokens, [&](auto& tile, int64_t n, int64_t t) {
    tile.add_product(e.p, entering + n * e.padded_p, e.padded_p, 1, m.dy_transposed + t, e.padded_tokens);
    tile.each([&](Vec<T> sum, int r, int column) {
      const int64_t at = (n + r) * e.padded_tokens + t + column;
      const Vec<T> dc = sum * load(decays.from_start + t + column);
      store(m.dc + at, load(m.dc + at) + dc);
      store(received + t + column, load(received + t + column) + dc * load(m.c_transposed + at));
      return sum;
    });
  });
  for (int64_t t = 0; t < e.tokens; ++t) grad.k[t] += static_cast<double>(received[t]);
}

/// The state that leaves: its share of dB, of Δ, and of k through w.
template <class T>
void through_leaving(const Extents& e, const Decays<T>& decays, const GroupScratch<T>& m, const T* leaving,
                     TimeGradients& grad) {
  alignas(64) T pull[kTokens] = {};  // x_s · z_s
  for_tiles<T>(e.padded_n, e.padded_tokens, [&](auto& tile, int64_t n, int64_t s) {
    tile.add_product(e.p, leaving + n * e.padded_p, e.padded_p, 1, m.x_transposed + s, e.padded_tokens);
    tile.each([&](Vec<T> sum, int r, int column) {
      const int64_t at = (n + r) * e.padded_tokens + s + column;
      store(m.db + at, load(m.db + at) + sum * load(decays.weight + s + column));
      store(pull + s + column, load(pull + s + column) + sum * load(m.b_transposed + at));
      return sum;
    });
  });
  double all = 0;
  for (int64_t s = 0; s < e.tokens; ++s) {
    const double share = static_cast<double>(decays.weight[s]) * static_cast<double>(pull[s]);
    grad.dt[s] += static_cast<double>(decays.to_end[s]) * static_cast<double>(pull[s]);
    grad.k[s] -= share;
    all += share;
  }
  grad.k[e.tokens - 1] += all;
}

template <class T>
double dot(const T* a, const T* b, int64_t count) {
  Vec<T> sum{};
  for (int64_t i = 0; i < count; i += kLanes<T>) sum += load(a + i) * load(b + i);
  return static_cast<double>(sum_lanes<T>(sum));
}

template <class T>
void input_gradient(const Extents& e, const Decays<T>& decays, const GroupScratch<T>& m, const T* leaving,
                    T d, T* dx, int64_t dx_stride) {
  for_tiles<T>(e.tokens, e.padded_p, [&](auto& tile, int64_t s, int64_t p) {
    if (leaving) {
      tile.add_product(e.n, m.b + s * e.padded_n, e.padded_n, 1, leaving + p, e.padded_p);
      tile.each([&](Vec<T> z, int r, int) { return z * decays.weight[s + r]; });
    }
    tile.add_product(e.tokens - s, m.mixing + s * e.padded_tokens + s, e.padded_tokens, 1,
                     m.dy + s * e.padded_p + p, e.padded_p);
    tile.each([&](Vec<T> sum, int r, int column) {
      return sum + d * load(m.dy + (s + r) * e.padded_p + p + column);
    });
    tile.store_part_to(dx + s * dx_stride + p, dx_stride, e.tokens - s, e.p - p);
  });
}

/// dB and dC of the group from the sums over its heads.
template <class T>
void group_gradients(const Extents& e, const GroupScratch<T>& m, T* db, int64_t db_stride, T* dc,
                     int64_t dc_stride) {
  T* through_states = m.b_transposed;  // [T, N]; free from here on
  const auto finish = [&](auto& tile, int64_t t, int64_t n, T* to, int64_t stride) {
    tile.each([&](Vec<T> sum, int r, int column) {
      return sum + load(through_states + (t + r) * e.padded_n + n + column);
    });
    tile.store_part_to(to + t * stride + n, stride, e.tokens - t, e.n - n);
  };
  transpose(m.db, e.padded_tokens, e.padded_n, e.padded_tokens, through_states, e.padded_n);
  for_tiles<T>(e.tokens, e.padded_n, [&](auto& tile, int64_t s, int64_t n) {
    tile.add_product(e.tokens - s, m.dcb + s * e.padded_tokens + s, e.padded_tokens, 1,
                     m.c + s * e.padded_n + n, e.padded_n);
    finish(tile, s, n, db, db_stride);
  });
  transpose(m.dc, e.padded_tokens, e.padded_n, e.padded_tokens, through_states, e.padded_n);
  for_tiles<T>(e.tokens, e.padded_n, [&](auto& tile, int64_t t, int64_t n) {
    const int64_t sources = t + kTileRows < e.tokens ? t + kTileRows : e.tokens;
    tile.add_product(sources, m.dcb + t, 1, e.padded_tokens, m.b + n, e.padded_n);
    finish(tile, t, n, dc, dc_stride);
  });
}

template <class T>
void zero(T* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = 0;
}

}  // namespace

template <class T>
DM_TASK void ssd_gradients_task(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                                const SsdInputGradient<T>& din, int64_t index, int64_t group, T* scratch) {
  const SsdPiece& piece = in.pieces[index];
  const Extents e(piece.length, in.head_dim, in.d_state);
  const GroupScratch<T> m(scratch, e);
  copy_padded(in.b.at(piece.row, piece.begin, group), in.b.token_stride, e.tokens, e.n, m.b, e.padded_tokens,
              e.padded_n);
  copy_padded(in.c.at(piece.row, piece.begin, group), in.c.token_stride, e.tokens, e.n, m.c, e.padded_tokens,
              e.padded_n);
  transpose(m.b, e.padded_n, e.padded_tokens, e.padded_n, m.b_transposed, e.padded_tokens);
  transpose(m.c, e.padded_n, e.padded_tokens, e.padded_n, m.c_transposed, e.padded_tokens);
  multiply_c_b(e, m.b, m.c_transposed, m.cb);
  zero(m.dcb, e.padded_tokens * e.padded_tokens);
  zero(m.db, e.padded_n * e.padded_tokens);
  zero(m.dc, e.padded_n * e.padded_tokens);

  const int64_t heads = in.heads / in.groups;
  for (int64_t head = group * heads; head < (group + 1) * heads; ++head) {
    const T* entering = piece.carried >= 0 ? slot(in.states, in, piece.carried, head) : nullptr;
    const T* leaving = leaving_gradient(in, dout, din, piece.row, index, head);
    Decays<T> decays;
    decays.load(in.dt.at(piece.row, piece.begin, head), in.dt.token_stride, in.a[head], e.tokens);
    copy_padded(in.x.at(piece.row, piece.begin, head), in.x.token_stride, e.tokens, e.p, m.x, e.padded_tokens,
                e.padded_p);
    copy_padded(dout.y.at(piece.row, piece.begin, head), dout.y.token_stride, e.tokens, e.p, m.dy,
                e.padded_tokens, e.padded_p);
    transpose(m.dy, e.padded_p, e.padded_tokens, e.padded_p, m.dy_transposed, e.padded_tokens);
    if (leaving) transpose(m.x, e.padded_p, e.padded_tokens, e.padded_p, m.x_transposed, e.padded_tokens);

    TimeGradients grad;
    multiply_dy_x(e, m);
    within_piece(e, decays, m, grad);
    if (entering) through_entering(e, decays, m, entering, grad);
    if (leaving) through_leaving(e, decays, m, leaving, grad);
    if (entering && leaving)
      grad.k[e.tokens - 1] +=
          static_cast<double>(decays.total) * dot(entering, leaving, e.padded_n * e.padded_p);
    input_gradient(e, decays, m, leaving, in.d[head], din.x.at(piece.row, piece.begin, head),
                   din.x.token_stride);

    double dl = 0, da = 0;
    T* dt = din.dt.at(piece.row, piece.begin, head);
    for (int64_t t = e.tokens - 1; t >= 0; --t) {
      dl += grad.k[t];
      da += static_cast<double>(decays.dt[t]) * dl;
      dt[t * din.dt.token_stride] = static_cast<T>(grad.dt[t] + static_cast<double>(in.a[head]) * dl);
    }
    din.a[index * in.heads + head] = da;
    din.d[index * in.heads + head] = dot(m.x, m.dy, e.padded_tokens * e.padded_p);
  }
  group_gradients(e, m, din.b.at(piece.row, piece.begin, group), din.b.token_stride,
                  din.c.at(piece.row, piece.begin, group), din.c.token_stride);
}

#define DM_INSTANTIATE(T)                                                                   \
  template void ssd_state_gradients_task(const SsdInput<T>&, const SsdOutputGradient<T>&,   \
                                         const SsdInputGradient<T>&, int64_t, int64_t, T*); \
  template void ssd_gradients_task(const SsdInput<T>&, const SsdOutputGradient<T>&,         \
                                   const SsdInputGradient<T>&, int64_t, int64_t, T*);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels::DM_SIMD_LEVEL
