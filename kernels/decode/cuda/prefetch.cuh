#pragma once
// The small vectors of a stage into the L2 cache two stages ahead: they are read once a token, when there is
// nothing else to do but wait for them. A warp of each block does only that.

#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/decode/cuda/grid.cuh"

namespace dm::kernels::cuda {

/// This block's share of the cache lines of `bytes` bytes, by a warp.
__device__ inline void prefetch_share(const void* memory, int64_t bytes) {
  constexpr int64_t kLine = 128;
  if (memory == nullptr) return;
  for (int64_t at = (blockIdx.x + gridDim.x * (threadIdx.x % 32)) * kLine; at < bytes;
       at += gridDim.x * 32 * kLine)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const char*>(memory) + at));
}

__device__ inline void prefetch_vectors(const DecodeStage& stage) {
  if (stage.kind == DecodeStage::Kind::norm_product) {
    const NormProduct& n = stage.norm;
    prefetch_share(n.weight, int64_t{n.matrix.inputs} * 4);
    prefetch_share(n.subln, int64_t{n.matrix.inputs} * 4);
    return;
  }
  const MixerProduct& m = stage.mixer;
  const int64_t channels = int64_t{m.branches} * m.channels(), heads = int64_t{m.branches} * m.heads;
  prefetch_share(m.conv_weight, channels * 16);
  prefetch_share(m.conv_bias, channels * 4);
  prefetch_share(m.window, m.rows * 3 * channels * 2);
  prefetch_share(m.norm, int64_t{m.branches} * m.inner * 4);
  for (const float* vector : {m.dt_bias, m.a, m.d}) prefetch_share(vector, heads * 4);
  prefetch_share(m.scale, int64_t{m.sections} * 4);
}

}  // namespace dm::kernels::cuda
