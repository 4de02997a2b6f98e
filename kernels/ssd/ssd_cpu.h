#pragma once
// The chunked scan on the CPU, on raw memory. ssd.h says what is computed; this file how it is cut into
// tasks.
//
// Two passes each way, so that every task is independent and every sum has a fixed order whatever the number
// of threads:
//   states            per (row, head), first piece to last:  S_out = β S_in + Σ_s w_s x_s B_sᵀ, kept for
//   every piece outputs           per (piece, group): C Bᵀ once, then per head y state gradients   per (row,
//   head), last piece to first:  dS_in = β dS_out + Σ_t α_t dy_t C_tᵀ gradients         per (piece, group):
//   all other gradients, dB and dC summed over the group's heads in order
// with α_t = exp(Σ_{r<=t} Δ_r a), β = α of the last token, w_s = Δ_s exp(Σ_{r>s} Δ_r a), sums over the piece.
//
// Inside, states are stored transposed, [N, P] with both extents padded to 16: every matrix product then has
// P, or the tokens of a piece, as its vector dim.

#include <cstdint>

#include "kernels/ssd/ssd_pieces.h"

namespace dm::kernels {

/// A [B, L, H, width] array whose last dim is contiguous (width 1 for dt).
template <class T>
struct TokenArray {
  T* data;
  int64_t row_stride, token_stride, head_stride;
  T* at(int64_t row, int64_t token, int64_t head) const {
    return data + row * row_stride + token * token_stride + head * head_stride;
  }
};

template <class T>
struct SsdInput {
  int64_t batch, heads, head_dim, groups, d_state;  // B, H, P, G, N
  const SsdPiece* pieces;
  const int64_t* rows;  // [B + 1], as in SsdPieces
  TokenArray<const T> x, dt, b, c;
  const T* a;              // [H]
  const T* d;              // [H]
  const T* initial_state;  // [B, H, P, N] or nullptr, read for the rows that cut_rows was told of
  T* states;  // [slots, H, padded N, padded P]; written by the forward passes, read by the backward ones
};

template <class T>
struct SsdOutput {
  TokenArray<T> y;
  T* final_state;  // [B, H, P, N]
};

template <class T>
struct SsdOutputGradient {
  TokenArray<const T> y;
  const T* final_state;  // [B, H, P, N] or nullptr: zero
};

template <class T>
struct SsdInputGradient {
  TokenArray<T> x, dt, b, c;
  double* a;         // [pieces, H], each piece's share
  double* d;         // [pieces, H]
  T* initial_state;  // [B, H, P, N] or nullptr; zero where no state enters the row
  T* states;  // [slots + B, H, padded N, padded P]: gradients of the entering states, then of the final ones
  int64_t slots;
};

template <class T>
void ssd_forward(const SsdInput<T>& in, const SsdOutput<T>& out);

template <class T>
void ssd_backward(const SsdInput<T>& in, const SsdOutputGradient<T>& dout, const SsdInputGradient<T>& din);

/// The first pass of each alone: out.final_state, and din.initial_state.
template <class T>
void ssd_final_state(const SsdInput<T>& in, const SsdOutput<T>& out);
template <class T>
void ssd_initial_gradient(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                          const SsdInputGradient<T>& din);

/// Elements of one state slot of one head.
int64_t ssd_slot_size(int64_t head_dim, int64_t d_state);

/// One head's token: state [P, N] in place, x and y [P], b and c [N].
template <class T>
void ssd_step_head(T* state, const T* x, T dt, T a, const T* b, const T* c, T d, T* y, int64_t head_dim,
                   int64_t d_state);

}  // namespace dm::kernels
