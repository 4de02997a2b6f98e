#pragma once
// What the kernels of the fast path know of every tile of 64 tokens before they start, made by one small
// kernel: sums of the log decay per head and document, and where documents begin.

#include <cuda_runtime_api.h>

#include "kernels/ssd/cuda/fast_shape.cuh"

namespace dm::kernels::cuda {

constexpr int kTile = 64;

__host__ __device__ constexpr int64_t tiles_of(int64_t length) { return (length + kTile - 1) / kTile; }

/// One head of one tile. Behind the end of the row dt is 0 and the sum stays.
struct DecayRecord {
  // log2 of the decay from the begin of the tile, or of the token's document if that is later, up to and
  // including each token, <= 0: differences mean something within a document only.
  float sum[kTile];
  float dt[kTile];
};

/// H the kernels' heads (fast_shape.cuh); those of one head are alike.
struct DecayTable {
  DecayRecord* records;  // [B, tiles, H]
  uint64_t* begins;      // [B, tiles]: Documents::begins (documents.cuh)
  float* a;              // [H]
  float* d;  // [2, H]: what y takes in of x and dx of dy with the first slice; of themselves with the others,
             // ones

  static DecayTable at(void* memory, const SsdShape& shape) {
    const int64_t tiles = shape.rows * tiles_of(shape.length), heads = folded(shape).heads;
    DecayTable table;
    table.records = static_cast<DecayRecord*>(memory);
    table.begins = reinterpret_cast<uint64_t*>(table.records + tiles * heads);
    table.a = reinterpret_cast<float*>(table.begins + tiles);
    table.d = table.a + heads;
    return table;
  }
  /// A multiple of 128.
  static int64_t bytes(const SsdShape& shape) {
    const int64_t tiles = shape.rows * tiles_of(shape.length), heads = folded(shape).heads;
    const int64_t count = tiles * (heads * int64_t{sizeof(DecayRecord)} + int64_t{sizeof(uint64_t)}) +
                          3 * heads * int64_t{sizeof(float)};
    return (count + 127) / 128 * 128;
  }

  /// What a launch for a slice takes for `in`.
  SsdInputs inputs(SsdInputs in, const StateSlice& slice) const {
    in.shape = folded(in.shape);
    in.a = a;
    in.d = slice.first() ? d : d + in.shape.heads;
    return in;
  }
};

/// Of the inputs as the caller has them.
cudaError_t make_decay_table(const SsdInputs& in, const DecayTable& table, cudaStream_t stream);

}  // namespace dm::kernels::cuda
