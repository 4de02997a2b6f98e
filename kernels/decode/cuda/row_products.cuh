#pragma once
// y = W x for a few x at once, W bfloat16 [O, I] read once from memory: what a token of decoding costs.
//
// Every warp of the grid takes rows of W in turn and has a ring of pieces of them in shared memory, which the
// copy engine fills. The ring is filled before the kernel waits for the kernels in front of it, so that the
// memory is busy while they work. The x are float32 in shared memory.

#include <cstdint>

#include "kernels/decode/cuda/early.cuh"
#include "kernels/device/elements.cuh"
#include "kernels/device/sums.cuh"
#include "kernels/ssd/cuda/tma.cuh"

namespace dm::kernels::cuda {

constexpr int kProductWarps = 8, kProductThreads = 32 * kProductWarps;
constexpr int kPiece = 1024;  // elements of a row of W, 2 kB: of a copy
constexpr int kSlots = 6;     // pieces in a warp's ring; two kernels' rings fit a multiprocessor
constexpr int kTogether = 4;  // rows that share what is read of x

struct RowMatrix {
  const bf16* data;  // 16-byte aligned
  int64_t stride;    // elements, a multiple of 8
  int rows, width;   // O, I (a multiple of 8)
};

/// Elements between two x in shared memory, zeros behind `width`.
__host__ __device__ constexpr int padded_width(int width) { return (width + kPiece - 1) / kPiece * kPiece; }

/// Where element i of an x stands: the first and the second four of every eight in halves of their own, so
/// that a warp reads both without bank conflicts.
__host__ __device__ constexpr int place_of(int i, int padded) {
  return i / 8 * 4 + i % 4 + (i / 4 % 2) * (padded / 2);
}

struct ProductMemory {
  alignas(128) char pieces[kProductWarps][kSlots][kPiece * 2];
  alignas(8) uint64_t arrivals[kProductWarps][kSlots];
};

/// Bytes of shared memory of a kernel with `rows` x.
inline int64_t product_shared_bytes(int rows, int64_t width) {
  return int64_t{sizeof(ProductMemory)} + int64_t{rows} * padded_width(static_cast<int>(width)) * 4;
}

/// A warp's rows of W on their way through its ring.
class RowStream {
 public:
  /// By whole warps; starts the copies.
  __device__ RowStream(const RowMatrix& matrix, ProductMemory& memory)
      : matrix_(matrix),
        pieces_((matrix.width + kPiece - 1) / kPiece),
        step_(static_cast<int>(gridDim.x) * kProductWarps) {
    const int warp = threadIdx.x / 32;
    first_ = static_cast<int>(blockIdx.x) * kProductWarps + warp;
    slots_ = static_cast<uint32_t>(__cvta_generic_to_shared(memory.pieces[warp]));
    arrivals_ = static_cast<uint32_t>(__cvta_generic_to_shared(memory.arrivals[warp]));
    memory_ = memory.pieces[warp][0];
    asked_.row = first_;
    if (leads()) {
      for (int i = 0; i < kSlots; ++i) arrival(i).init(1);
      Mbarrier::fence_init();
      for (int i = 0; i < kSlots; ++i) ask();
    }
    __syncwarp();
  }

  /// Calls use(row, sums) for up to kTogether rows at a time: sums[j][b] = Σ_i W[row + j step(), i] x_b[i] in
  /// every lane; `x` holds kRows padded vectors.
  template <int kRows, class Use>
  __device__ void multiply(const float* x, const Use& use) {
    const int padded = padded_width(matrix_.width), lane = threadIdx.x % 32;
    int taken = 0;
    for (int row = first_; row < matrix_.rows; row += kTogether * step_) {
      float sums[kTogether][kRows] = {};
      const int together = rows_from(row);
      for (int piece = 0; piece < pieces_; ++piece) {
        const bf16* from[kTogether];
        for (int j = 0; j < kTogether; ++j) {
          if (j < together) arrival((taken + j) % kSlots).wait((taken + j) / kSlots % 2);
          from[j] = reinterpret_cast<const bf16*>(memory_ + (taken + j) % kSlots * (kPiece * 2));
        }
        taken += together;
        const float* const here = x + piece * (kPiece / 2);
        const int present = matrix_.width - piece * kPiece;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int i = (k * 32 + lane) * 8;
          Pack<bf16, 8> w[kTogether];
#pragma unroll
          for (int j = 0; j < kTogether; ++j)
            w[j] = Pack<bf16, 8>::of(from[j] + i, j < together && i < present);
#pragma unroll
          for (int b = 0; b < kRows; ++b) {
            const float* const of = here + b * padded + (k * 32 + lane) * 4;
            const float4 low = *reinterpret_cast<const float4*>(of);
            const float4 high = *reinterpret_cast<const float4*>(of + padded / 2);
#pragma unroll
            for (int j = 0; j < kTogether; ++j) {
              sums[j][b] += w[j][0] * low.x + w[j][1] * low.y + w[j][2] * low.z + w[j][3] * low.w;
              sums[j][b] += w[j][4] * high.x + w[j][5] * high.y + w[j][6] * high.z + w[j][7] * high.w;
            }
          }
        }
        __syncwarp();
        if (leads())
          for (int j = 0; j < together; ++j) ask();
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j)
#pragma unroll
        for (int b = 0; b < kRows; ++b) sums[j][b] = warp_sum(sums[j][b]);
      use(row, together, sums);
    }
  }
  __device__ int step() const { return step_; }

 private:
  struct Place {
    int row, piece = 0, j = 0;  // the first row of those together, the piece, which of them
  };
  __device__ static bool leads() { return threadIdx.x % 32 == 0; }
  __device__ Mbarrier arrival(int slot) const { return {arrivals_ + static_cast<uint32_t>(slot) * 8}; }
  /// How many rows are taken together from `row` on.
  __device__ int rows_from(int row) const { return min(kTogether, (matrix_.rows - row + step_ - 1) / step_); }

  /// The copy of the next piece, if there is one; by the leading lane.
  __device__ void ask() {
    if (asked_.row >= matrix_.rows) return;
    const int slot = count_++ % kSlots, begin = asked_.piece * kPiece;
    const int bytes = min(kPiece, matrix_.width - begin) * 2;
    const int64_t row = asked_.row + int64_t{asked_.j} * step_;
    arrival(slot).arrive_expecting(bytes);
    bulk_load(slots_ + static_cast<uint32_t>(slot) * (kPiece * 2),
              matrix_.data + row * matrix_.stride + begin, bytes, arrival(slot));
    if (++asked_.j < rows_from(asked_.row)) return;
    asked_.j = 0;
    if (++asked_.piece < pieces_) return;
    asked_.piece = 0;
    asked_.row += kTogether * step_;
  }

  RowMatrix matrix_;
  int pieces_, step_, first_;
  uint32_t slots_, arrivals_;
  const char* memory_;
  Place asked_{};
  int count_ = 0;  // pieces asked for
};

/// Writes the sums of multiply() as bfloat16: to [b, row] of a matrix with rows `stride` apart, b < rows.
template <int kRows>
struct StoreRows {
  bf16* to;
  int64_t stride;
  int rows, step;
  __device__ void operator()(int row, int together, const float (&sums)[kTogether][kRows]) const {
    const int lane = threadIdx.x % 32, j = lane / kRows, b = lane % kRows;
    float mine = 0.f;
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
#pragma unroll
      for (int k = 0; k < kRows; ++k) mine = i == j && k == b ? sums[i][k] : mine;
    if (j < together && b < rows) put(to + b * stride + row + int64_t{j} * step, mine);
  }
};

/// Sums of one value for each of kRows vectors over the block, in every thread; two barriers.
template <int kRows>
__device__ void block_sums(float (&v)[kRows], float (&slots)[kProductWarps][kRows]) {
#pragma unroll
  for (int b = 0; b < kRows; ++b) v[b] = warp_sum(v[b]);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
#pragma unroll
    for (int b = 0; b < kRows; ++b) slots[threadIdx.x / 32][b] = v[b];
  __syncthreads();
#pragma unroll
  for (int b = 0; b < kRows; ++b) {
    v[b] = 0.f;
#pragma unroll
    for (int i = 0; i < kProductWarps; ++i) v[b] += slots[i][b];
  }
}

/// Calls `call` with the number of vectors that a kernel is compiled for.
template <class Call>
auto for_product_rows(int64_t rows, const Call& call) {
  if (rows <= 1) return call.template operator()<1>();
  if (rows <= 2) return call.template operator()<2>();
  return call.template operator()<4>();
}
constexpr int64_t kMostProductRows =
    4;  // of eight, arithmetic and the norms of all in every block are slower

}  // namespace dm::kernels::cuda
