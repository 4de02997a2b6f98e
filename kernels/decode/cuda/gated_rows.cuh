#pragma once
// The second half of a mixer's stage: the gated norm of the scan's output and its factors.

#include "kernels/decode/cuda/mixer_step.cuh"

namespace dm::kernels::cuda {

/// B's and C's columns of the convolution's windows, which many units read: dealt out to the threads of some
/// blocks, and moved on when the scan's output of all these rows is there, for then nobody reads them any
/// more. What has to be read for it is on its way before.
class SharedWindows {
 public:
  /// Of rows first_row .. + rows - 1; to thread `index` of `threads`.
  __device__ SharedWindows(const MixerProduct& m, int first_row, int rows, int index, int threads,
                           uint32_t launch)
      : m_(m), first_row_(first_row), index_(index), threads_(threads), launch_(launch) {
    each_ = 2 * m.groups * m.states, count_ = rows * m.branches * each_;
    if (index_ < count_) read();
  }
  __device__ void move() {
    for (; index_ < count_; index_ += threads_, index_ < count_ ? read() : void()) column_.move(now_);
  }

 private:
  __device__ void read() {
    const int part = quotient(index_, each_), own_row = quotient(part, m_.branches),
              row = first_row_ + own_row, branch = part - own_row * m_.branches,
              channel = m_.inner + index_ - part * each_, column = branch * m_.columns() + m_.inner + channel;
    column_ = WindowColumn(m_, row, branch * m_.channels() + channel);
    const ProjectedRow projected(m_, row);
    if (projected.mail == nullptr)
      now_ = bits_of(projected.memory, column);
    else
      now_ = projected.take_one(column, launch_);
  }

  const MixerProduct& m_;
  int first_row_, index_, threads_, each_, count_;
  uint32_t launch_, now_ = 0;
  WindowColumn column_;
};

/// Of the gated norm of rows first_row .. + rows - 1, up to eight: the gated and weighted rows to block.x, in
/// bfloat16 for a product or in float32, and the roots, one a span, to the factors. Complete for all warps;
/// `meanwhile` runs when the scan's output of all these rows has been seen.
template <class Meanwhile>
__device__ void gated_rows(const MixerProduct& m, int first_row, int rows, DecodeBlock& block,
                           bool for_product, Meanwhile meanwhile) {
  constexpr int kEach = 4;
  static_assert(kSpanPiece == 32 * kEach);
  using Halves = Pack<bf16, kEach>;
  using Floats = Pack<float, kEach>;
  const RowTeam team(rows);
  const int width = m.branches * m.inner, first = team.lane * kEach, step = team.threads * kEach;
  const int end = team.row < rows ? width : 0, row = first_row + team.row;
  const int section = m.sections > 0 ? quotient(width, m.sections) : width;
  const auto factor = [&](int i) {
    return m.sections == 0 ? 1.f : m.scale[(m.scale_by_token ? row * m.sections : 0) + quotient(i, section)];
  };
  // Before the scan's output is there: the norm's weights and the factor of a thread's first channels.
  const auto first_norm = Floats::of(m.norm + first, first < end);
  const float first_factor = first < end ? factor(first) : 1.f;
  const ProjectedRow projected(m, row);
  const uint64_t* const y_mail = m.y_mail + int64_t{row} * width / 2;
  const uint32_t launch = block.launch;
  bf16* const x = block.x + team.row * x_stride(width);
#pragma unroll 1
  for (int i = first; i < end; i += step) {
    const int branch = quotient(i, m.inner), column = i + branch * (m.columns() - m.inner);
    uint64_t first_y, second_y;
    Halves y, z;
    look(y_mail + i / 2, first_y, second_y);
    if (projected.mail == nullptr)
      z = Halves::of(static_cast<const bf16*>(projected.memory) + column);
    else
      take(projected.mail + column / 2, launch, z.words);
    const auto norm = i == first ? first_norm : Floats::of(m.norm + i);
    const float scale = i == first ? first_factor : factor(i);
    float g[kEach], squares = 0.f;
#pragma unroll
    for (int k = 0; k < kEach; ++k) g[k] = z[k] * sigmoid<bf16>(z[k]);
    while (!is_of(first_y, launch) || !is_of(second_y, launch)) look(y_mail + i / 2, first_y, second_y);
    y.words[0] = static_cast<uint32_t>(first_y), y.words[1] = static_cast<uint32_t>(second_y);
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      g[k] *= y[k];
      squares += g[k] * g[k];
      g[k] *= norm[k] * scale;
    }
    if (for_product)
      put_input(x, i, Halves::of(g).words);
    else
      Floats::of(g).to(reinterpret_cast<float*>(block.x) + i);
    squares = warp_sum(squares);  // of one piece
    if (threadIdx.x % 32 == 0) block.memory.squares[team.row][i / kSpanPiece] = squares;
  }
  decode_sync();
  const int pieces = width / kSpanPiece, span_pieces = quotient(width, m.spans) / kSpanPiece;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < rows * pieces; i += kDecodeThreads) {
    const int own_row = quotient(i, pieces), piece = i - own_row * pieces,
              begin = quotient(piece, span_pieces) * span_pieces;
    float sum = 0.f;
#pragma unroll 4
    for (int p = 0; p < span_pieces; ++p) sum += block.memory.squares[own_row][begin + p];
    block.memory.factors[own_row][piece] = rsqrtf(sum / static_cast<float>(span_pieces * kSpanPiece) + m.eps);
  }
  meanwhile();
  decode_sync();
}

}  // namespace dm::kernels::cuda
