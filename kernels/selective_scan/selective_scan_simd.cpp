// Tasks of the selective scan: kernels/selective_scan/selective_scan_cpu.h.

#include "kernels/selective_scan/selective_scan_cpu.h"
#include "kernels/simd/row.h"

namespace dm::kernels::DM_SIMD_LEVEL {
namespace {

/// The channels of a task.
struct Channels {
  int64_t begin, end;
  template <class T>
  Channels(const SelectiveInput<T>& in, int64_t block)
      : begin(block * kScanChannels),
        end(begin + kScanChannels < in.channels ? begin + kScanChannels : in.channels) {}
};

/// Whether the state before token t counts as zero.
template <class T>
bool resets(const SelectiveInput<T>& in, int64_t row, int64_t t) {
  const int32_t* ids = in.seq_idx + row * in.length;
  return t > 0 && ids[t] != ids[t - 1];
}

template <class T>
void zero(T* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = 0;
}

/// [E, N] of a row's channels <-> vectors [N] of channels e, e + 1, ..: element (n, lane) at [n * kLanes +
/// lane].
template <class T>
void gather_state(const T* state, int64_t d_state, int64_t lanes, T* to) {
  for (int64_t n = 0; n < d_state; ++n)
    for (int64_t lane = 0; lane < kLanes<T>; ++lane)
      to[n * kLanes<T> + lane] = lane < lanes ? state[lane * d_state + n] : T(0);
}
template <class T>
void scatter_state(const T* from, int64_t d_state, int64_t lanes, T* state) {
  for (int64_t lane = 0; lane < lanes; ++lane)
    for (int64_t n = 0; n < d_state; ++n) state[lane * d_state + n] = from[n * kLanes<T> + lane];
}

template <class T>
int64_t lanes_at(const Channels& channels, int64_t e) {
  return channels.end - e < kLanes<T> ? channels.end - e : kLanes<T>;
}

}  // namespace

template <class T>
int64_t selective_scratch_size(int64_t d_state) {
  return d_state * (4 * kScanTokens * kLanes<T> + 2 * kScanChannels + 2 * kLanes<T>);
}

template <class T>
DM_TASK void selective_forward_task(const SelectiveInput<T>& in, const SelectiveOutput<T>& out, int64_t row,
                                    int64_t channel_block, T* scratch) {
  const Channels channels(in, channel_block);
  const int64_t n_count = in.d_state;
  const auto state_of = [&](int64_t e) { return scratch + (e - channels.begin) * n_count; };  // [N] vectors
  const auto stored = [&](int64_t e) { return (row * in.channels + e) * n_count; };
  for_row<T>(channels.begin, channels.end, [&](int64_t e, auto) {
    if (in.initial_state)
      gather_state(in.initial_state + stored(e), n_count, lanes_at<T>(channels, e), state_of(e));
    else
      zero(state_of(e), n_count * kLanes<T>);
  });
  for (int64_t block = 0; block < in.token_blocks(); ++block) {
    const int64_t first = block * kScanTokens,
                  last = first + kScanTokens < in.length ? first + kScanTokens : in.length;
    for_row<T>(channels.begin, channels.end, [&](int64_t e, auto access) {
      T* state = state_of(e);
      if (in.states)
        for (int64_t n = 0; n < n_count; ++n)
          access.put(in.states + ((row * in.token_blocks() + block) * n_count + n) * in.channels + e,
                     load(state + n * kLanes<T>));
      for (int64_t t = first; t < last; ++t) {
        if (resets(in, row, t)) zero(state, n_count * kLanes<T>);
        const Vec<T> x = access.get(in.x.at(row, t) + e), dt = access.get(in.dt.at(row, t) + e), dtx = dt * x;
        const T *b = in.b.at(row, t), *c = in.c.at(row, t);
        Vec<T> y{};
        for (int64_t n = 0; n < n_count; ++n) {
          const Vec<T> decay = exp_nonpositive<T>(dt * access.get(in.a + n * in.channels + e));
          const Vec<T> next = decay * load(state + n * kLanes<T>) + dtx * b[n];
          store(state + n * kLanes<T>, next);
          y += next * c[n];
        }
        access.put(out.y + (row * in.length + t) * in.channels + e, y + access.get(in.d + e) * x);
      }
    });
  }
  for_row<T>(channels.begin, channels.end, [&](int64_t e, auto) {
    scatter_state(state_of(e), n_count, lanes_at<T>(channels, e), out.final_state + stored(e));
  });
}

// With dS_t the gradient of S_t, and u_t = Δ_t x_t:
//   dS_t += dy_t C_t,  dC_t = Σ_e dy_t S_t,  dB_t = Σ_e dS_t u_t,  du_t = Σ_n dS_t B_t,  dx_t = Δ_t du_t + D
//   dy_t dl_t = dS_t S_{t-1} exp(l_t) with l_t = Δ_t a,  da = Σ_t Δ_t dl_t,  dΔ_t = x_t du_t + Σ_n a dl_t,
//   dS_{t-1} = exp(l_t) dS_t
template <class T>
DM_TASK void selective_backward_task(const SelectiveInput<T>& in, const SelectiveGradient<T>& grad,
                                     int64_t row, int64_t channel_block, T* scratch) {
  const Channels channels(in, channel_block);
  const int64_t n_count = in.d_state, vectors = n_count * kLanes<T>;  // elements of one [N] of vectors
  T* states = scratch;                                                // [kScanTokens][N] vectors: S_t
  T* decays = states + kScanTokens * vectors;                         // exp(l_t)
  T* db = decays + kScanTokens * vectors;  // shares of dB and dC, lanes not yet summed
  T* dc = db + kScanTokens * vectors;
  T* da = dc + kScanTokens * vectors;  // [N] vectors: share of one block of tokens
  T* entering = da + vectors;          // [N] vectors: S before the block's first token
  T* dstates = entering + vectors;     // per channel vector: dS
  const auto dstate_of = [&](int64_t e) { return dstates + (e - channels.begin) * n_count; };
  const auto stored = [&](int64_t e) { return (row * in.channels + e) * n_count; };
  for_row<T>(channels.begin, channels.end, [&](int64_t e, auto) {
    const int64_t lanes = lanes_at<T>(channels, e);
    if (grad.dfinal_state)
      gather_state(grad.dfinal_state + stored(e), n_count, lanes, dstate_of(e));
    else
      zero(dstate_of(e), vectors);
    for (int64_t n = 0; n < n_count; ++n) zero(grad.a + (row * n_count + n) * in.channels + e, lanes);
    zero(grad.d + row * in.channels + e, lanes);
  });

  for (int64_t block = in.token_blocks() - 1; block >= 0; --block) {
    const int64_t first = block * kScanTokens,
                  last = first + kScanTokens < in.length ? first + kScanTokens : in.length;
    zero(db, kScanTokens * vectors);
    zero(dc, kScanTokens * vectors);
    for_row<T>(channels.begin, channels.end, [&](int64_t e, auto access) {
      for (int64_t n = 0; n < n_count; ++n)
        store(entering + n * kLanes<T>,
              access.get(in.states + ((row * in.token_blocks() + block) * n_count + n) * in.channels + e));
      const auto state_before = [&](int64_t t) {
        return t == first ? entering : states + (t - 1 - first) * vectors;
      };
      for (int64_t t = first; t < last; ++t) {
        const Vec<T> dt = access.get(in.dt.at(row, t) + e), dtx = dt * access.get(in.x.at(row, t) + e);
        const bool reset = resets(in, row, t);
        for (int64_t n = 0; n < n_count; ++n) {
          const int64_t at = (t - first) * vectors + n * kLanes<T>;
          const Vec<T> decay = exp_nonpositive<T>(dt * access.get(in.a + n * in.channels + e));
          const Vec<T> before = reset ? Vec<T>{} : load(state_before(t) + n * kLanes<T>);
          store(decays + at, decay);
          store(states + at, decay * before + dtx * in.b.at(row, t)[n]);
        }
      }
      zero(da, vectors);
      T* dstate = dstate_of(e);
      Vec<T> dd{};
      for (int64_t t = last - 1; t >= first; --t) {
        const Vec<T> x = access.get(in.x.at(row, t) + e), dt = access.get(in.dt.at(row, t) + e),
                     dy = access.get(grad.dy.at(row, t) + e);
        const T *b = in.b.at(row, t), *c = in.c.at(row, t);
        const bool reset = resets(in, row, t);
        Vec<T> du{}, ddt{};
        for (int64_t n = 0; n < n_count; ++n) {
          const int64_t at = (t - first) * vectors + n * kLanes<T>, i = n * kLanes<T>;
          const Vec<T> ds = load(dstate + i) + dy * c[n], decay = load(decays + at);
          store(dc + at, load(dc + at) + dy * load(states + at));
          store(db + at, load(db + at) + ds * (dt * x));
          du += ds * b[n];
          const Vec<T> passed = reset ? Vec<T>{} : ds * decay;
          const Vec<T> dl = reset ? Vec<T>{} : passed * load(state_before(t) + i);
          ddt += dl * access.get(in.a + n * in.channels + e);
          store(da + i, load(da + i) + dl * dt);
          store(dstate + i, passed);
        }
        dd += dy * x;
        const int64_t to = (row * in.length + t) * in.channels + e;
        access.put(grad.dx + to, dt * du + access.get(in.d + e) * dy);
        access.put(grad.ddt + to, x * du + ddt);
      }
      for (int64_t lane = 0; lane < lanes_at<T>(channels, e); ++lane) {
        for (int64_t n = 0; n < n_count; ++n)
          grad.a[(row * n_count + n) * in.channels + e + lane] +=
              static_cast<double>(da[n * kLanes<T> + lane]);
        grad.d[row * in.channels + e + lane] += static_cast<double>(dd[lane]);
      }
    });
    const int64_t share = ((channel_block * in.batch + row) * in.length + first) * n_count;
    for (int64_t i = 0; i < (last - first) * n_count; ++i) {
      grad.b[share + i] = static_cast<double>(sum_lanes<T>(load(db + i * kLanes<T>)));
      grad.c[share + i] = static_cast<double>(sum_lanes<T>(load(dc + i * kLanes<T>)));
    }
  }
  if (!grad.dinitial_state) return;
  for_row<T>(channels.begin, channels.end, [&](int64_t e, auto) {
    scatter_state(dstate_of(e), n_count, lanes_at<T>(channels, e), grad.dinitial_state + stored(e));
  });
}

template <class T>
DM_TASK T selective_step_channel(T* state, T x, T dt, const T* a, const T* b, const T* c, T d,
                                 int64_t d_state) {
  Vec<T> y{};
  for_row<T>(0, d_state, [&](int64_t n, auto access) {
    const Vec<T> next =
        exp_nonpositive<T>(dt * access.get(a + n)) * access.get(state + n) + (dt * x) * access.get(b + n);
    access.put(state + n, next);
    y += next * access.get(c + n);
  });
  return sum_lanes<T>(y) + d * x;
}

#define DM_INSTANTIATE(T)                                                                               \
  template int64_t selective_scratch_size<T>(int64_t);                                                  \
  template void selective_forward_task(const SelectiveInput<T>&, const SelectiveOutput<T>&, int64_t,    \
                                       int64_t, T*);                                                    \
  template void selective_backward_task(const SelectiveInput<T>&, const SelectiveGradient<T>&, int64_t, \
                                        int64_t, T*);                                                   \
  template T selective_step_channel(T*, T, T, const T*, const T*, const T*, T, int64_t);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels::DM_SIMD_LEVEL
