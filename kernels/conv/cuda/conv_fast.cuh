#pragma once
// How the fast path of the convolution cuts its work. A block has 8 strips of 64 consecutive tokens of one
// row, a warp each. A thread walks along its strip with a few channels. It keeps the last four tokens in a
// ring and has the next four on their way; the walk is unrolled by four, so that every place in the ring is
// known to the compiler. One more column of blocks makes the step sizes.

#include "kernels/conv/cuda/conv_paths.cuh"

namespace dm::kernels::cuda {

constexpr int kTaps = 4, kHalo = kTaps - 1;
constexpr int kConvWarps = 8, kConvThreads = 32 * kConvWarps;
constexpr int kStrip = 64, kConvTokens = kConvWarps * kStrip;

__host__ __device__ constexpr int64_t conv_token_blocks(int64_t length) {
  return (length + kConvTokens - 1) / kConvTokens;
}

/// A block's place: token block `tokens` of all rows' and column block `column`, the last of which makes the
/// step sizes. Column blocks follow each other, so that blocks that run together read whole rows of memory.
struct ConvBlock {
  int64_t tokens, row, first;  // first: token of the row
  int column;
  bool steps;

  __device__ explicit ConvBlock(const ConvInputs& in, int columns) {
    const int64_t blocks = conv_token_blocks(in.length);
    tokens = blockIdx.x / columns;
    column = blockIdx.x % columns;
    row = tokens / blocks;
    first = tokens % blocks * kConvTokens;
    steps = in.columns.heads > 0 && column == columns - 1;
  }
};

/// A warp's tokens of a row, [first, last); empty behind the row.
struct Strip {
  int64_t first, last;

  __device__ Strip(const ConvBlock& block, int64_t length) {
    first = block.first + threadIdx.x / 32 * kStrip;
    last = min(first + kStrip, length);
  }
};

/// Which terms the tokens of a block have: bit k of a token's byte is that of tap k. Behind the row none.
struct __align__(4) Terms {
  static constexpr uint32_t kAll = 0x07070707u;
  uint8_t bits[kConvTokens + kTaps];

  __device__ void find(const ConvInputs& in, const ConvBlock& block) {
    for (int i = threadIdx.x; i < kConvTokens + kTaps; i += kConvThreads) {
      const int64_t t = block.first + i;
      uint32_t mask = 0;
      if (t < in.length)
        for (int k = 0; k < kHalo; ++k) mask |= uint32_t{is_term(in, block.row, t - kHalo + k, t)} << k;
      bits[i] = static_cast<uint8_t>(mask);
    }
    __syncthreads();
  }
  /// Of four tokens from a multiple of four on, a byte each.
  __device__ uint32_t four(int first) const { return *reinterpret_cast<const uint32_t*>(bits + first); }
};

/// Whether `bits` (Terms::four) have tap k of token i; the last tap is always there.
template <bool kAll>
__device__ bool has_term(uint32_t bits, int i, int k) {
  return kAll || k == kHalo || (bits >> (8 * i + k) & 1) != 0;
}

/// The place in a ring of four of the token that tap k of token i of a step of four takes.
__device__ constexpr int ring(int i, int k) { return (i + 1 + k) % kTaps; }

/// Weights and bias of a thread's channels.
template <int kVec>
struct Taps {
  float weight[kTaps][kVec], bias[kVec];

  __device__ Taps(const ConvInputs& in, int64_t channel) {
#pragma unroll
    for (int c = 0; c < kVec; ++c) {
      const float4 w = reinterpret_cast<const float4*>(in.weight)[channel + c];
      weight[0][c] = w.x, weight[1][c] = w.y, weight[2][c] = w.z, weight[3][c] = w.w;
      bias[c] = in.bias[channel + c];
    }
  }
};

/// x of the last four tokens, at first of the three before the strip.
template <class T, int kVec>
struct Window {
  float x[kTaps][kVec];

  /// column: of token 0 of the row.
  __device__ Window(const ConvInputs& in, int64_t row, int64_t first, const T* column, int64_t channel) {
    const int64_t channels = in.columns.branches * (in.columns.inner + 2 * in.columns.group_width);
#pragma unroll
    for (int k = 0; k < kHalo; ++k) {
      const int64_t t = first - kHalo + k;
      auto pack = Pack<T, kVec>::zero();
      if (t >= 0) {
        if (t < in.length) pack = Pack<T, kVec>::of(column + t * in.projected_stride);
      } else if (in.initial) {
        pack = Pack<T, kVec>::of(static_cast<const T*>(in.initial) + (row * kHalo + kHalo + t) * channels +
                                 channel);
      }
#pragma unroll
      for (int c = 0; c < kVec; ++c) x[ring(0, k)][c] = pack[c];
    }
  }
  __device__ void take(int i, const Pack<T, kVec>& pack) {
#pragma unroll
    for (int c = 0; c < kVec; ++c) x[ring(i, kHalo)][c] = pack[c];
  }
};

/// Four tokens of a column that are on their way; zeros behind the end.
template <class T, int kVec>
struct Ahead {
  const T* at;  // of the next token to ask for
  int64_t stride;
  int left;  // tokens there are from `at` on
  Pack<T, kVec> packs[kTaps];

  __device__ Ahead(const T* from, int64_t stride, int64_t count)
      : at(from), stride(stride), left(static_cast<int>(count)) {
#pragma unroll
    for (int i = 0; i < kTaps; ++i) ask(i);
  }
  __device__ void ask(int i) {
    packs[i] = Pack<T, kVec>::of(at, left > 0);
    at += stride;
    --left;
  }
};

/// Column blocks of `channels_a_block` channels, and one for the step sizes.
inline int conv_columns(const ConvInputs& in, int channels_a_block) {
  return static_cast<int>((conv_channels(in) + channels_a_block - 1) / channels_a_block +
                          (in.columns.heads > 0));
}
inline unsigned conv_blocks(const ConvInputs& in, int columns) {
  return static_cast<unsigned>(columns * in.rows * conv_token_blocks(in.length));
}

}  // namespace dm::kernels::cuda
