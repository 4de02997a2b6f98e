// Forward tasks of the chunked scan and the decoding step: kernels/ssd/ssd_cpu.h.

#include "kernels/ssd/ssd_piece_simd.h"

namespace dm::kernels::DM_SIMD_LEVEL {

template <class T>
int64_t ssd_scratch_size(int64_t head_dim, int64_t d_state) {
  const int64_t p = padded(head_dim), n = padded(d_state), t = kTokens;
  return 4 * t * t + 6 * t * n + 4 * t * p + n * p;
}

template <class T>
DM_TASK void ssd_states_task(const SsdInput<T>& in, const SsdOutput<T>& out, int64_t row, int64_t head,
                             T* scratch) {
  const int64_t group = head / (in.heads / in.groups);
  const int64_t first = in.rows[row], last = in.rows[row + 1] - 1;
  const int64_t state_size = in.head_dim * in.d_state, state_at = (row * in.heads + head) * state_size;
  Carver<T> carve{scratch};
  T* final_state = carve.take(padded(in.d_state) * padded(in.head_dim));
  T* weighted = carve.take(kTokens * padded(in.head_dim));  // w_s x_s
  T* b = carve.take(kTokens * padded(in.d_state));
  if (in.initial_state && in.pieces[first].carried >= 0)
    state_to_slot(in.initial_state + state_at, in.head_dim, in.d_state,
                  slot(in.states, in, in.pieces[first].carried, head));
  for (int64_t i = first; i <= last; ++i) {
    const SsdPiece& piece = in.pieces[i];
    const int64_t next = i < last ? in.pieces[i + 1].carried : -1;
    if (i < last && next < 0) continue;  // the document ends here: nobody reads the state it leaves
    const Extents e(piece.length, in.head_dim, in.d_state);
    Decays<T> decays;
    decays.load(in.dt.at(row, piece.begin, head), in.dt.token_stride, in.a[head], e.tokens);
    copy_padded(in.x.at(row, piece.begin, head), in.x.token_stride, e.tokens, e.p, weighted, e.tokens,
                e.padded_p);
    for (int64_t s = 0; s < e.tokens; ++s)
      for (int64_t j = 0; j < e.padded_p; ++j) weighted[s * e.padded_p + j] *= decays.weight[s];
    copy_padded(in.b.at(row, piece.begin, group), in.b.token_stride, e.tokens, e.n, b, e.tokens, e.padded_n);
    const T* entering = piece.carried >= 0 ? slot(in.states, in, piece.carried, head) : nullptr;
    T* leaving = i < last ? slot(in.states, in, next, head) : final_state;
    for_tiles<T>(e.padded_n, e.padded_p, [&](auto& tile, int64_t n, int64_t p) {
      const int64_t at = n * e.padded_p + p;
      if (entering)
        tile.each([&](Vec<T>, int r, int column) {
          return decays.total * load(entering + at + r * e.padded_p + column);
        });
      tile.add_product(e.tokens, b + n, 1, e.padded_n, weighted + p, e.padded_p);
      tile.store_to(leaving + at, e.padded_p);
    });
  }
  slot_to_state(final_state, in.head_dim, in.d_state, out.final_state + state_at);
}

template <class T>
DM_TASK void ssd_outputs_task(const SsdInput<T>& in, const SsdOutput<T>& out, int64_t index, int64_t group,
                              T* scratch) {
  const SsdPiece& piece = in.pieces[index];
  const Extents e(piece.length, in.head_dim, in.d_state);
  Carver<T> carve{scratch};
  T* b = carve.take(e.padded_tokens * e.padded_n);
  T* c = carve.take(e.padded_tokens * e.padded_n);
  T* c_transposed = carve.take(e.padded_n * e.padded_tokens);
  T* cb = carve.take(e.padded_tokens * e.padded_tokens);      // [s, t]
  T* mixing = carve.take(e.padded_tokens * e.padded_tokens);  // [s, t]: C_t · B_s exp(Σ_{s<r<=t} l_r) Δ_s
  T* x = carve.take(e.padded_tokens * e.padded_p);
  copy_padded(in.b.at(piece.row, piece.begin, group), in.b.token_stride, e.tokens, e.n, b, e.padded_tokens,
              e.padded_n);
  copy_padded(in.c.at(piece.row, piece.begin, group), in.c.token_stride, e.tokens, e.n, c, e.padded_tokens,
              e.padded_n);
  transpose(c, e.padded_n, e.padded_tokens, e.padded_n, c_transposed, e.padded_tokens);
  multiply_c_b(e, b, c_transposed, cb);

  const int64_t heads = in.heads / in.groups;
  for (int64_t head = group * heads; head < (group + 1) * heads; ++head) {
    Decays<T> decays;
    decays.load(in.dt.at(piece.row, piece.begin, head), in.dt.token_stride, in.a[head], e.tokens);
    copy_padded(in.x.at(piece.row, piece.begin, head), in.x.token_stride, e.tokens, e.p, x, e.padded_tokens,
                e.padded_p);
    for (int64_t s = 0; s < e.tokens; ++s)
      for (int64_t t = s / kBlock * kBlock; t < e.padded_tokens; t += kLanes<T>) {
        const int64_t at = s * e.padded_tokens + t;
        store(mixing + at, load(cb + at) * decays.between(s, t, e.tokens) * decays.dt[s]);
      }
    const T* entering = piece.carried >= 0 ? slot(in.states, in, piece.carried, head) : nullptr;
    T* y = out.y.at(piece.row, piece.begin, head);
    for_tiles<T>(e.tokens, e.padded_p, [&](auto& tile, int64_t t, int64_t p) {
      if (entering) {
        tile.add_product(e.n, c + t * e.padded_n, e.padded_n, 1, entering + p, e.padded_p);
        tile.each([&](Vec<T> sum, int r, int) { return sum * decays.from_start[t + r]; });
      }
      const int64_t sources = t + kTileRows < e.tokens ? t + kTileRows : e.tokens;
      tile.add_product(sources, mixing + t, 1, e.padded_tokens, x + p, e.padded_p);
      tile.each([&](Vec<T> sum, int r, int column) {
        return sum + in.d[head] * load(x + (t + r) * e.padded_p + p + column);
      });
      tile.store_part_to(y + t * out.y.token_stride + p, out.y.token_stride, e.tokens - t, e.p - p);
    });
  }
}

template <class T>
DM_TASK void ssd_step_task(T* state, const T* x, T dt, T a, const T* b, const T* c, T d, T* y,
                           int64_t head_dim, int64_t d_state) {
  const T l = dt * a;
  const T decay = exp_nonpositive<T>(splat<T>(l))[0];
  for (int64_t p = 0; p < head_dim; ++p, state += d_state) {
    const T scaled = dt * x[p];
    Vec<T> sum{};
    int64_t n = 0;
    for (; n + kLanes<T> <= d_state; n += kLanes<T>) {
      const Vec<T> next = decay * load(state + n) + scaled * load(b + n);
      store(state + n, next);
      sum += next * load(c + n);
    }
    if (n < d_state) {
      const int64_t rest = d_state - n;
      const Vec<T> next = decay * load_part(state + n, rest) + scaled * load_part(b + n, rest);
      store_part(state + n, next, rest);
      sum += next * load_part(c + n, rest);
    }
    y[p] = sum_lanes<T>(sum) + d * x[p];
  }
}

#define DM_INSTANTIATE(T)                                                                        \
  template int64_t ssd_scratch_size<T>(int64_t, int64_t);                                        \
  template void ssd_states_task(const SsdInput<T>&, const SsdOutput<T>&, int64_t, int64_t, T*);  \
  template void ssd_outputs_task(const SsdInput<T>&, const SsdOutput<T>&, int64_t, int64_t, T*); \
  template void ssd_step_task(T*, const T*, T, T, const T*, const T*, T, T*, int64_t, int64_t);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels::DM_SIMD_LEVEL
