#pragma once
// What a block of the decoding chain has in shared memory.

#include "kernels/decode/cuda/memory_ring.cuh"
#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {

constexpr int kSpanPiece =
    128;  // channels whose squares a warp sums; a span of the gated norm is whole pieces
constexpr int kMostSpanPieces = 64;
constexpr int kMostConvolved = kManyChannels + 2 * kMostStates;

struct BlockMemory {
  RingMemory ring;
  int stage;              // that the computing warps are at
  DecodeStage stages[4];  // the one before, which may still be read; this one; two to come
  alignas(16) float4 slots[kDecodeWarps];
  float squares[kMostProductRows][kMostSpanPieces];
  float factors[kMostProductRows][kMostSpanPieces];  // of x, for every piece
  alignas(16) float convolved[kMostConvolved];
  alignas(16) float4 head;  // a unit's Δ, decay and D
};

/// Groups of a block whose sums are added up at once; 370m's in_proj, 584 on 132 multiprocessors, has five.
__host__ __device__ constexpr int groups_together(int rows) { return rows <= 4 ? 6 : 3; }
/// Floats of what each warp adds to the outputs of these groups.
__host__ __device__ constexpr int part_floats(int rows) {
  return groups_together(rows) * kDecodeWarps * rows * kGroup;
}

/// Four channels from i on to a row of x and back. Of eight channels, four words, the order there is 0, 2, 1,
/// 3: as mma_row() takes them.
__device__ inline uint32_t* input_at(bf16* x, int i) {
  return reinterpret_cast<uint32_t*>(x + (i & ~7)) + (i >> 2 & 1);
}
__device__ inline void put_input(bf16* x, int i, const uint32_t (&words)[2]) {
  uint32_t* const at = input_at(x, i);
  at[0] = words[0], at[2] = words[1];
}
__device__ inline void take_input(bf16* x, int i, uint32_t (&words)[2]) {
  const uint32_t* const at = input_at(x, i);
  words[0] = at[0], words[1] = at[2];
}

/// Elements between the rows of x, the product's input; neighbours fall into other banks.
__host__ __device__ constexpr int x_stride(int width) { return (width + 63) / 64 * 64 + 32; }

/// A stage's view of its block.
struct DecodeBlock {
  BlockMemory& memory;
  bf16* x;       // [rows, x_stride(inputs)] of a stage
  float* h;      // [rows, D], the stream
  float* parts;  // part_floats()
  MemoryRing ring;
  uint32_t launch;  // its number
};

}  // namespace dm::kernels::cuda
