#pragma once
// y = W x for up to eight x at once: W comes through the ring, eight rows of it are one side of a tensor core
// instruction and the x are the other, so that four x take no longer than one. One loop serves every stage,
// and stays a loop: what a token waits for is instructions.

#include "kernels/decode/cuda/block_memory.cuh"
#include "kernels/decode/cuda/mail.cuh"

namespace dm::kernels::cuda {

/// c [16, 8] = a [16, 16] b [16, 8].
///
/// A thread's 16 bytes of a row g of W are the four words of a: words 0 and 2 as row g, 1 and 3 as row g + 8.
/// Column 2 t of b is x_t's words 0 and 2 of the same columns, 2 t + 1 its words 1 and 3. So of a thread's
/// c [g, 2 t], c [g, 2 t + 1], c [g + 8, 2 t], c [g + 8, 2 t + 1] the first and the last add up to row g of
/// W times x_t, with g = lane / 4, t = lane % 4; the others are not used.
__device__ inline float mma_row(const Pack<bf16, 8>& a, uint2 b) {
  float c[4];
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %10, %10, %10};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.x), "r"(b.y), "f"(0.f));
  return c[0] + c[3];
}

/// Where a product goes.
struct ProductStore {
  bf16* product;
  uint64_t* mail;
  int stride;
};

/// Σ_i W[output, i] x[row, i] factors[row, i], for this block's outputs. x and the factors are complete
/// before; first: DecodeStage::first_product.
__device__ inline void multiply(const DecodeMatrix& m, int first, int rows, DecodeBlock& block,
                                const ProductStore& store) {
  constexpr int kChunk = 32, kChunks = kPiece / kChunk / kDecodeWarps;  // columns; of a warp, in a piece
  constexpr int kTexts = 4;                                             // of an instruction
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int line = lane / 4, text = lane % kTexts;  // row of a group of W and x, of a sum
  const int part = warp * kChunk + lane % 4 * 8;    // columns
  const int x_text = line / 2;                      // whose words this thread gives
  const int groups = product_groups(m), grid = static_cast<int>(gridDim.x), inputs = m.inputs;
  const int stride = x_stride(inputs);
  const bf16* const x_at = block.x + x_text * stride + part + line % 2 * 4;
  const int together = groups_together(rows), part_stride = rows * kGroup;
#pragma unroll 1
  for (int begin = own_part(first); begin < groups; begin += together * grid) {
#pragma unroll 1
    for (int j = 0; j < together && begin + j * grid < groups; ++j) {
      float sum = 0.f, later_sum = 0.f;  // of texts from 4 on
#pragma unroll 1
      for (int column = 0; column < inputs; column += kPiece) {
        Pack<bf16, 8> w[kChunks];
        uint2 x[kChunks];
        float factor[kChunks];
        bool present[kChunks];
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          const int i = column + c * kDecodeWarps * kChunk;
          present[c] = part + i < inputs;
          x[c] = x_text < rows && present[c] ? *reinterpret_cast<const uint2*>(x_at + i) : uint2{};
          factor[c] = text < rows && warp * kChunk + i < inputs
                          ? block.memory.factors[text][static_cast<unsigned>(part + i) / kSpanPiece]
                          : 0.f;
        }
        const char* const slot = block.ring.take() + line * kPieceRow + part * 2;
#pragma unroll
        for (int c = 0; c < kChunks; ++c)
          w[c] =
              Pack<bf16, 8>::of(reinterpret_cast<const bf16*>(slot) + c * kDecodeWarps * kChunk, present[c]);
        block.ring.give_back();
#pragma unroll
        for (int c = 0; c < kChunks; ++c) sum += factor[c] * mma_row(w[c], x[c]);
        if (rows > kTexts)
#pragma unroll
          for (int c = 0; c < kChunks; ++c) {
            const int i = column + c * kDecodeWarps * kChunk;
            const bool there = x_text + kTexts < rows && present[c];
            const uint2 later = there ? *reinterpret_cast<const uint2*>(x_at + kTexts * stride + i) : uint2{};
            const float later_factor =
                text + kTexts < rows && warp * kChunk + i < inputs
                    ? block.memory.factors[text + kTexts][static_cast<unsigned>(part + i) / kSpanPiece]
                    : 0.f;
            later_sum += later_factor * mma_row(w[c], later);
          }
      }
      float* const to = block.parts + (j * kDecodeWarps + warp) * part_stride + line;
      if (text < rows) to[text * kGroup] = sum;
      if (text + kTexts < rows) to[(text + kTexts) * kGroup] = later_sum;
    }
    decode_sync();
    // A warp adds up a group, a thread two outputs of a row.
    static_assert(groups_together(1) <= kDecodeWarps && kMostProductRows * kGroup == 64);
    const int group = begin + warp * grid, row = lane / 4, output = group * kGroup + lane % 4 * 2;
    if (warp < together && group < groups && row < rows && output < m.outputs) {
      const float* const from = block.parts + warp * kDecodeWarps * part_stride + lane * 2;
      float2 sums[4] = {};  // chains of additions
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) {
        const float2 one = *reinterpret_cast<const float2*>(from + w * part_stride);
        sums[w % 4].x += one.x, sums[w % 4].y += one.y;
      }
      const float first_sum = (sums[0].x + sums[1].x) + (sums[2].x + sums[3].x),
                  second_sum = (sums[0].y + sums[1].y) + (sums[2].y + sums[3].y);
      const int at = row * store.stride + output;
      if (store.mail != nullptr) post(store.mail + at / 2, first_sum, second_sum, block.launch);
      put(store.product + at, first_sum);
      if (output + 1 < m.outputs) put(store.product + at + 1, second_sum);
    }
    if (begin + together * grid < groups) decode_sync();  // else one comes before the next parts
  }
}

}  // namespace dm::kernels::cuda
