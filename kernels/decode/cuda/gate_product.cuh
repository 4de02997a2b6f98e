#pragma once
// The second half of a mixer's stage: the gated norm of the scan's output, its factors, and the product.

#include "kernels/decode/cuda/mixer_step.cuh"
#include "kernels/decode/cuda/product.cuh"

namespace dm::kernels::cuda {

/// The gated norm of rows first_row .. + rows - 1, up to eight.
class GatedNorms {
 public:
  static constexpr int kEach = 8;
  static_assert(kSpanPiece == 32 * kEach);

  /// Before the scan's output is there: where things are, and the norm's weights of a thread's first
  /// channels.
  __device__ GatedNorms(const MixerProduct& m, int first_row, int rows)
      : m_(m),
        team_(rows),
        width_(m.branches * m.inner),
        first_(team_.lane * kEach),
        span_(width_ / m.spans),
        section_(m.sections > 0 ? width_ / m.sections : width_),
        there_(team_.row < rows),
        row_(first_row + team_.row),
        first_place_(place(first_)),
        first_norm_(Pack<float, kEach>::of(m.norm + first_, there_ && first_ < width_)),
        first_factor_(there_ && first_ < width_ ? factor(first_place_) : 1.f) {}

  /// Each pack of eight channels to use(row of the team, channel, pack); by the whole block.
  template <class Use>
  __device__ void run(DecodeBlock& block, const Use& use) const {
    float(&pieces)[kMostSpanPieces] = block.memory.squares[team_.row];
    float first_g[kEach];
    for (int i = first_; there_ && i < width_; i += team_.threads * kEach) {
      float g[kEach], squares = 0.f;
      gated(i, i == first_ ? first_place_ : place(i), block.launch, g);
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        squares += g[k] * g[k];
        if (i == first_) first_g[k] = g[k];
      }
      squares = warp_sum(squares);  // of one piece
      if (threadIdx.x % 32 == 0) pieces[i / kSpanPiece] = squares;
    }
    decode_sync();
    const int span_pieces = span_ / kSpanPiece;
    for (int i = first_; there_ && i < width_; i += team_.threads * kEach) {
      const Place here = i == first_ ? first_place_ : place(i);
      float sum = 0.f;
#pragma unroll 4
      for (int p = here.span * span_pieces, end = p + span_pieces; p < end; ++p) sum += pieces[p];
      const float root = rsqrtf(sum / static_cast<float>(span_) + m_.eps);
      const float scaled = root * (i == first_ ? first_factor_ : factor(here));
      const auto norm = i == first_ ? first_norm_ : Pack<float, kEach>::of(m_.norm + i);
      float g[kEach];
      if (i == first_) {
#pragma unroll
        for (int k = 0; k < kEach; ++k) g[k] = first_g[k];
      } else {
        gated(i, here, block.launch, g);
      }
#pragma unroll
      for (int k = 0; k < kEach; ++k) g[k] *= scaled * norm[k];
      use(team_.row, i, Pack<bf16, kEach>::of(g));
    }
    decode_sync();
  }

 private:
  struct Place {
    int z, span, section;  // column of z; of which span and section
  };
  __device__ Place place(int i) const {
    const int branch = i / m_.inner;
    return {branch * m_.columns() + i - branch * m_.inner, i / span_, i / section_};
  }
  __device__ float factor(const Place& at) const {
    if (m_.sections == 0) return 1.f;
    return m_.scale[(m_.scale_by_token ? row_ * m_.sections : 0) + at.section];
  }
  __device__ void gated(int i, const Place& at, uint32_t launch, float (&g)[kEach]) const {
    using Halves = Pack<bf16, kEach>;
    Halves y, z;
    const int64_t z_at = row_ * m_.projected_stride + at.z;
    if (m_.projected_mail == nullptr)
      z = Halves::of(static_cast<const bf16*>(m_.projected) + z_at);
    else
      take(m_.projected_mail + z_at / 2, launch, z.words);
    take(m_.y_mail + (row_ * width_ + i) / 2, launch, y.words);
#pragma unroll
    for (int k = 0; k < kEach; ++k) g[k] = y[k] * z[k] * sigmoid<bf16>(z[k]);
  }

  const MixerProduct& m_;
  const RowTeam team_;
  const int width_, first_, span_, section_;
  const bool there_;
  const int64_t row_;
  const Place first_place_;
  const Pack<float, kEach> first_norm_;
  const float first_factor_;  // scale is there before: no stage of a chain writes it
};

/// The last tokens of the convolution's window of rows [begin, end) move up by one, this one comes behind
/// them; by `threads` threads, of which this is number `thread`. Not before the scan's output of all these
/// rows is there: until then some block may be reading the window.
__device__ inline void move_windows(const MixerProduct& m, int begin, int end, int thread, int threads,
                                    uint32_t launch) {
  const int channels = m.branches * m.channels();
  for (int64_t i = int64_t{begin} * channels + thread; i < int64_t{end} * channels; i += threads) {
    const int64_t row = i / channels;
    const int channel = static_cast<int>(i % channels), branch = channel / m.channels();
    bf16* const window = static_cast<bf16*>(m.window) + row * kHalo * channels + channel;
    const int64_t at = row * m.projected_stride + branch * m.columns() + m.inner + channel % m.channels();
    window[0] = window[channels];
    window[channels] = window[2 * channels];
    if (m.projected_mail == nullptr) {
      window[2 * channels] = static_cast<const bf16*>(m.projected)[at];
    } else {
      uint64_t word;
      do word = look(m.projected_mail + at / 2);
      while (!is_of(word, launch));
      put(window + 2 * channels, half_of(word, at));
    }
  }
}

__device__ inline void gate_product(const MixerProduct stage, int first_product, DecodeBlock& block) {
  const int stride = x_stride(stage.branches * stage.inner), grid = static_cast<int>(gridDim.x);
  bf16* const product = static_cast<bf16*>(stage.product);
  if (stage.matrix.data != nullptr) {
    GatedNorms(stage, 0, stage.rows).run(block, [&](int row, int i, const Pack<bf16, 8>& g) {
      g.to(block.x + row * stride + i);
    });
    multiply(
        stage.matrix, first_product, stage.rows, block,
        ProductStore{product, stage.product_mail, stage.product_stride, stage.matrix.outputs, block.launch});
    move_windows(stage, 0, stage.rows,
                 static_cast<int>(blockIdx.x) * kDecodeThreads + static_cast<int>(threadIdx.x),
                 grid * kDecodeThreads, block.launch);
  } else {
    for (int row = static_cast<int>(blockIdx.x); row < stage.rows; row += grid) {
      GatedNorms(stage, row, 1).run(block, [&](int, int i, const Pack<bf16, 8>& g) {
        g.to(product + int64_t{row} * stage.product_stride + i);
      });
      move_windows(stage, row, row + 1, static_cast<int>(threadIdx.x), kDecodeThreads, block.launch);
    }
  }
}

}  // namespace dm::kernels::cuda
