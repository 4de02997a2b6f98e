#pragma once
// What a block of the decoding chain has in shared memory.

#include "kernels/decode/cuda/memory_ring.cuh"
#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {

constexpr int kSpanPiece =
    256;  // channels whose squares a warp sums; a span of the gated norm is whole pieces
constexpr int kMostSpanPieces = 32;
constexpr int kMostConvolved = kDecodeWarps * kMany + 2 * kMostStates;

struct BlockMemory {
  RingMemory ring;
  DecodeStage stages[4];  // the one before, which may still be read; this one; two to come
  float slots[2][kDecodeWarps];
  float roots[kMostProductRows];
  float squares[kMostProductRows][kMostSpanPieces];
  alignas(16) float convolved[kMostConvolved];
  // Of the product: what each warp adds to 8 outputs of 8 rows.
  alignas(16) float parts[kTogether][kDecodeWarps][kMostProductRows * kGroup];
};

/// Elements between the rows of x, the product's input; neighbours fall into other banks.
__host__ __device__ constexpr int x_stride(int width) { return (width + 63) / 64 * 64 + 32; }

/// A stage's view of its block.
struct DecodeBlock {
  BlockMemory& memory;
  bf16* x;   // [rows, x_stride(inputs)] of a stage
  float* h;  // [rows, D], the stream
  MemoryRing ring;
  uint32_t launch;  // its number
};

}  // namespace dm::kernels::cuda
