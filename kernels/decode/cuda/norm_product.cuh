#pragma once
// The stage between two blocks of the network (norm_linear.h). Every block takes the norm of every row by
// itself: that is quicker than another round of waiting.

#include "kernels/decode/cuda/product.cuh"

namespace dm::kernels::cuda {

// By value: what stands in shared memory would be read again after every barrier.
__device__ inline void norm_product(const NormProduct stage, int first_product, DecodeBlock& block) {
  constexpr int kEach = 4;  // channels that a thread takes at a time
  using Floats = Pack<float, kEach>;
  using Halves = Pack<bf16, kEach>;
  const RowTeam team(stage.rows);
  const int width = stage.matrix.inputs, first = team.lane * kEach, step = team.threads * kEach;
  const bool there = team.row < stage.rows, first_there = there && first < width;
  const int64_t row = int64_t{team.row} * width;
  const bf16* const y = static_cast<const bf16*>(stage.y);
  const float mean_of = 1.f / static_cast<float>(width);
  // What the stage before did not write is on its way before that is done.
  const auto first_weight = Floats::of(stage.weight + first, first_there);
  const auto first_subln = Floats::of(stage.subln + first, stage.subln != nullptr && first_there);
  if (stage.h != nullptr)  // a thread has the same channels in every stage
    for (int i = first; there && i < width; i += step) Floats::of(stage.h + row + i).to(block.h + row + i);

  const auto load_y = [&](int i) {
    if (stage.y_mail == nullptr) return Halves::of(y + row + i, y != nullptr);
    Halves v;
    take(stage.y_mail + (row + i) / 2, block.launch, v.words);
    return v;
  };
  Halves first_y = Halves::zero();
  if (first_there) first_y = load_y(first);
  const auto y_at = [&](int i) { return i == first ? first_y : load_y(i); };
  float root_of_y = 1.f;
  if (y != nullptr && stage.subln != nullptr) {
    float squares = 0.f;
    for (int i = first; there && i < width; i += step) {
      const Halves v = y_at(i);
#pragma unroll
      for (int k = 0; k < kEach; ++k) squares += v[k] * v[k];
    }
    root_of_y = rsqrtf(team.sum(squares, block.memory.slots[0]) * mean_of + stage.eps);
  }
  // The root of the sum is a factor of the whole row: it comes last, to the product.
  float squares = 0.f;
  for (int i = first; there && i < width; i += step) {
    const auto h = Floats::of(block.h + row + i);
    const auto weight = i == first ? first_weight : Floats::of(stage.weight + i);
    const auto subln = i == first ? first_subln : Floats::of(stage.subln + i, stage.subln != nullptr);
    const Halves v = y_at(i);
    float sum[kEach], weighted[kEach];
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      sum[k] = h[k] + (stage.subln != nullptr ? v[k] * root_of_y * subln[k] : v[k]);
      squares += sum[k] * sum[k];
      weighted[k] = sum[k] * weight[k];
    }
    Halves::of(weighted).to(block.x + team.row * x_stride(width) + i);
    const auto next = Floats::of(sum);
    next.to(block.h + row + i);
    // For what comes after the launch each block writes its share.
    if (y != nullptr && static_cast<unsigned>(i / kEach) % gridDim.x == blockIdx.x)
      next.to(stage.h_next + row + i);
  }
  squares = team.sum(squares, block.memory.slots[1]);
  if (there && team.lane == 0) block.memory.roots[team.row] = rsqrtf(squares * mean_of + stage.eps);
  const ProductStore store{static_cast<bf16*>(stage.product), stage.product_mail, stage.product_stride,
                           stage.matrix.outputs, block.launch};
  multiply(stage.matrix, first_product, stage.rows, block, [&](int b, int output, float sum, float next) {
    store(b, output, sum * block.memory.roots[b], next * block.memory.roots[b]);
  });
}

}  // namespace dm::kernels::cuda
