#pragma once
// y = W x for up to eight x at once: W comes through the ring, eight rows of it are one side of a tensor core
// instruction and the x are the other, so that eight x take no longer than one.

#include "kernels/decode/cuda/block_memory.cuh"
#include "kernels/decode/cuda/mail.cuh"

namespace dm::kernels::cuda {

/// c [16, 8] += a [16, 16] b [16, 8], of whose a the rows from 8 on are zero. Each thread gives two words of
/// a row (of a: lane / 4) or column (of b: lane / 4); which columns of the product's input they are does not
/// matter as long as both sides agree.
__device__ inline void mma_rows(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, "
      "%1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(0), "r"(a1), "r"(0), "r"(b0), "r"(b1));
}

/// Calls use(row, output, sum, next) once for every two sums Σ_i W[output, i] x[row, i] of this block's
/// outputs, `output` and the one behind it, from different threads. x is complete before; first:
/// DecodeStage::first_product.
template <class Use>
__device__ void multiply(const DecodeMatrix m, int first, int rows, DecodeBlock& block, const Use& use) {
  constexpr int kChunk = 32, kChunks = kPiece / kChunk / kDecodeWarps;  // columns; of a warp, in a piece
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int line = lane / 4, part = lane % 4 * 8;  // row of x and of the group; columns in a chunk
  const int groups = product_groups(m), grid = static_cast<int>(gridDim.x), stride = x_stride(m.inputs);
  auto& parts = block.memory.parts;
  for (int begin = own_part(first); begin < groups; begin += kTogether * grid) {
    float sums[kTogether][4] = {};
    for (int column = 0; column < m.inputs; column += kPiece) {
      const int present = m.inputs - column;
      Pack<bf16, 8> x[kChunks];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const int i = (c * kDecodeWarps + warp) * kChunk + part;
        x[c] = Pack<bf16, 8>::of(block.x + line * stride + column + i, line < rows && i < present);
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        if (begin + j * grid >= groups) break;
        const char* const slot = block.ring.take();
        Pack<bf16, 8> w[kChunks];
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          const int i = (c * kDecodeWarps + warp) * kChunk + part;
          w[c] = Pack<bf16, 8>::of(reinterpret_cast<const bf16*>(slot + line * kPieceRow) + i, i < present);
        }
        block.ring.give_back();
        float odd[4] = {};  // two chains of instructions
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          float(&sum)[4] = c % 2 == 0 ? sums[j] : odd;
          mma_rows(sum, x[c].words[0], x[c].words[1], w[c].words[0], w[c].words[1]);
          mma_rows(sum, x[c].words[2], x[c].words[3], w[c].words[2], w[c].words[3]);
        }
        sums[j][0] += odd[0], sums[j][1] += odd[1];
      }
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j)
      *reinterpret_cast<float2*>(&parts[j][warp][line * kGroup + lane % 4 * 2]) = {sums[j][0], sums[j][1]};
    decode_sync();
    const int together = min(kTogether, (groups - begin + grid - 1) / grid);
    constexpr int kPairs = kMostProductRows * kGroup / 2;
    for (int i = static_cast<int>(threadIdx.x); i < together * kPairs; i += kDecodeThreads) {
      const int j = i / kPairs, at = i % kPairs * 2;
      const int row = at / kGroup, output = (begin + j * grid) * kGroup + at % kGroup;
      if (row >= rows || output >= m.outputs) continue;
      float2 sum = {0.f, 0.f};
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) {
        const float2 part = *reinterpret_cast<const float2*>(&parts[j][w][at]);
        sum.x += part.x, sum.y += part.y;
      }
      use(row, output, sum.x, sum.y);
    }
    if (begin + kTogether * grid < groups) decode_sync();  // else the stage's end is one
  }
}

/// Where a product goes.
struct ProductStore {
  bf16* product;
  uint64_t* mail;
  int stride, outputs;
  uint32_t launch;
  __device__ void operator()(int row, int output, float first, float second) const {
    const int64_t at = int64_t{row} * stride + output;
    if (mail != nullptr) post(mail + at / 2, first, second, launch);
    put(product + at, first);
    if (output + 1 < outputs) put(product + at + 1, second);
  }
};

}  // namespace dm::kernels::cuda
