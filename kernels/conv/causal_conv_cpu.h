#pragma once
// The causal convolution on the CPU, on raw memory: causal_conv.h says what is computed.
//
// A task is a block of kConvTokens tokens of one row by kConvChannels channels. The backward task computes du
// of its own tokens and of the W - 1 that follow, so that it can finish its dx alone; its sums over tokens
// are its share of dweight and dbias.

#include <cstdint>

#include "kernels/simd/dispatch.h"

namespace dm::kernels {

inline constexpr int64_t kConvTokens = 64;
inline constexpr int64_t kConvChannels = 256;

template <class T>
struct ConvInput {
  int64_t batch, length, channels, width;  // B, L, C, W
  const T* x;                              // [B, L, C], last dim contiguous
  int64_t x_row, x_token;                  // strides
  const T* taps;                           // [W, C]: the weight transposed
  const T* bias;                           // [C]
  const int32_t* seq_idx;                  // [B, L]
  const T* initial;                        // [B, W-1, C] or nullptr
  int64_t token_blocks() const { return (length + kConvTokens - 1) / kConvTokens; }
  int64_t channel_blocks() const { return (channels + kConvChannels - 1) / kConvChannels; }
};

template <class T>
struct ConvGradient {
  const T* dy;  // [B, L, C], last dim contiguous
  int64_t dy_row, dy_token;
  T* dx;           // [B, L, C]
  T* dinitial;     // [B, W-1, C] or nullptr
  double* shares;  // [B * token blocks, W + 1, C]: dtaps, then dbias
};

// clang-format off
DM_SIMD_DECLARE(
  template <class T>
  void conv_forward_task(const ConvInput<T>& in, T* y, int64_t row, int64_t token_block, int64_t channel_block);

  /// scratch: (kConvTokens + W - 1) * kConvChannels elements.
  template <class T>
  void conv_backward_task(const ConvInput<T>& in, const ConvGradient<T>& grad, int64_t row, int64_t token_block,
                          int64_t channel_block, T* scratch);
)
// clang-format on

}  // namespace dm::kernels
