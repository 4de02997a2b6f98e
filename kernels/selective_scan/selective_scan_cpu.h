#pragma once
// The selective scan on the CPU, on raw memory: selective_scan.h says what is computed.
//
// Channels are the vector dim. A task is one row by kScanChannels channels, from the first token to the last
// in blocks of kScanTokens; the state before each block is kept for the backward pass, which goes through the
// blocks from the last to the first and computes the states inside a block again. dB and dC are sums over
// channels: each task leaves its share.

#include <cstdint>

#include "kernels/simd/dispatch.h"

namespace dm::kernels {

inline constexpr int64_t kScanTokens = 32;
inline constexpr int64_t kScanChannels = 128;

/// A [B, L, width] array, last dim contiguous.
template <class T>
struct RowArray {
  T* data;
  int64_t row_stride, token_stride;
  T* at(int64_t row, int64_t token) const { return data + row * row_stride + token * token_stride; }
};

template <class T>
struct SelectiveInput {
  int64_t batch, length, channels, d_state;  // B, L, E, N
  RowArray<const T> x, dt, b, c;
  const T* a;              // [N, E]: transposed
  const T* d;              // [E]
  const int32_t* seq_idx;  // [B, L]
  const T* initial_state;  // [B, E, N] or nullptr
  T* states;  // [B, token blocks, N, E]: the state before each block; nullptr when no gradient will be asked
              // for
  int64_t token_blocks() const { return (length + kScanTokens - 1) / kScanTokens; }
  int64_t channel_blocks() const { return (channels + kScanChannels - 1) / kScanChannels; }
};

template <class T>
struct SelectiveOutput {
  T* y;            // [B, L, E]
  T* final_state;  // [B, E, N]
};

template <class T>
struct SelectiveGradient {
  RowArray<const T> dy;
  const T* dfinal_state;  // [B, E, N] or nullptr: zero
  T *dx, *ddt;            // [B, L, E]
  T* dinitial_state;      // [B, E, N] or nullptr
  double *b, *c;          // [channel blocks, B, L, N]: each task's share
  double* a;              // [B, N, E]: each row's share
  double* d;              // [B, E]
};

// clang-format off
DM_SIMD_DECLARE(
  template <class T>
  int64_t selective_scratch_size(int64_t d_state);  // elements, enough for any task

  template <class T>
  void selective_forward_task(const SelectiveInput<T>& in, const SelectiveOutput<T>& out, int64_t row,
                              int64_t channel_block, T* scratch);

  template <class T>
  void selective_backward_task(const SelectiveInput<T>& in, const SelectiveGradient<T>& grad, int64_t row,
                               int64_t channel_block, T* scratch);

  /// One token of one channel: state and a [N], b and c [N]; returns y.
  template <class T>
  T selective_step_channel(T* state, T x, T dt, const T* a, const T* b, const T* c, T d, int64_t d_state);
)
// clang-format on

}  // namespace dm::kernels
