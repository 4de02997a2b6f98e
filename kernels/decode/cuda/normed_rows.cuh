#pragma once
// The first half of the stage between two blocks of the network (norm_linear.h): what its product is of.
// Every block takes the norm of every row by itself: that is quicker than another round of waiting.

#include "kernels/decode/cuda/block_memory.cuh"
#include "kernels/decode/cuda/mail.cuh"

namespace dm::kernels::cuda {

/// The weighted rows to block.x and their roots to the factors, complete for all warps.
///
/// With u = y subln the stream becomes h + r u, r the reciprocal root of y, and its squares add up to
/// Σ h² + 2 r Σ h u + r² Σ u²: all sums are known when y is, and the warps meet once for them.
__device__ inline void normed_rows(const NormProduct& in_shared, DecodeBlock& block) {
  constexpr int kEach = 4;  // channels that a thread takes at a time, the same in every stage
  using Floats = Pack<float, kEach>;
  using Halves = Pack<bf16, kEach>;
  const NormProduct stage = in_shared;  // what stands in shared memory would be read again after barriers
  const RowTeam team(stage.rows);
  const int width = stage.matrix.inputs, first = team.lane * kEach, step = team.threads * kEach;
  const bool there = team.row < stage.rows, plus_y = stage.y != nullptr,
             normed_y = plus_y && stage.subln != nullptr;
  const int end = there ? width : 0, row = team.row * width;
  const float mean_of = 1.f / static_cast<float>(width);
  // What the stage before did not write is on its way before that is done.
  const auto first_weight = Floats::of(stage.weight + first, first < end);
  const auto first_subln = Floats::of(stage.subln + first, normed_y && first < end);
  float* const h = block.h + row;
  bf16* const x = block.x + team.row * x_stride(width);
  if (stage.h != nullptr)
#pragma unroll 1
    for (int i = first; i < end; i += step) Floats::of(stage.h + row + i).to(h + i);
  // For what comes after the launch each block writes its share.
  const int share = (quotient(width / kEach - 1, static_cast<int>(gridDim.x)) + 1) * kEach,
            share_begin = static_cast<int>(blockIdx.x) * share;

  float4 sums{};  // of y², of what h + r u has of h², h u and u²
#pragma unroll 1
  for (int i = first; i < end; i += step) {
    const auto before = Floats::of(h + i);
    const auto subln = i == first ? first_subln : Floats::of(stage.subln + i, normed_y);
    Halves v = Halves::zero();
    if (plus_y && stage.y_mail == nullptr) v = Halves::of(static_cast<const bf16*>(stage.y) + row + i);
    if (plus_y && stage.y_mail != nullptr) take(stage.y_mail + (row + i) / 2, block.launch, v.words);
    put_input(x, i, v.words);  // y waits where x will be: the same thread takes it from there
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const float u = normed_y ? v[k] * subln[k] : 0.f, known = normed_y ? before[k] : before[k] + v[k];
      sums.x += v[k] * v[k], sums.y += known * known, sums.z += known * u, sums.w += u * u;
    }
  }
  sums = team.sum(sums, block.memory.slots);
  const float r = normed_y ? rsqrtf(sums.x * mean_of + stage.eps) : 1.f;
  const float squares = fmaxf(sums.y + 2.f * r * sums.z + r * r * sums.w, 0.f);
  const float root = rsqrtf(squares * mean_of + stage.eps);
#pragma unroll 1
  for (int i = first; i < end; i += step) {
    const auto before = Floats::of(h + i);
    const auto weight = i == first ? first_weight : Floats::of(stage.weight + i);
    const auto subln = i == first ? first_subln : Floats::of(stage.subln + i, normed_y);
    Halves v;
    take_input(x, i, v.words);
    float sum[kEach], weighted[kEach];
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      sum[k] = before[k] + (normed_y ? v[k] * r * subln[k] : v[k]);
      weighted[k] = sum[k] * weight[k];
    }
    put_input(x, i, Halves::of(weighted).words);
    if (i % kSpanPiece == 0) block.memory.factors[team.row][i / kSpanPiece] = root;
    const auto next = Floats::of(sum);
    next.to(h + i);
    if (plus_y && static_cast<unsigned>(i - share_begin) < static_cast<unsigned>(share))
      next.to(stage.h_next + row + i);
  }
  decode_sync();
}

}  // namespace dm::kernels::cuda
