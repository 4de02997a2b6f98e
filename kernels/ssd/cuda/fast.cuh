#pragma once
// The fast path's launches, one file per pass so that they compile side by side.

#include <cuda_runtime_api.h>

#include "kernels/ssd/cuda/decay.cuh"
#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

/// Calls function.operator()<P, N>() for the shape's instantiation; false where there is none.
template <typename Function>
bool for_fast_shape(const SsdShape& shape, Function function) {
  const auto is = [&](int64_t p, int64_t n) { return shape.head_dim == p && shape.state == n; };
  if (is(32, 128)) return function.template operator()<32, 128>(), true;
#ifndef DM_SSD_ONE_SHAPE
  if (is(32, 64)) return function.template operator()<32, 64>(), true;
  if (is(64, 128)) return function.template operator()<64, 128>(), true;
  if (is(64, 64)) return function.template operator()<64, 64>(), true;
#endif
  return false;
}

/// Heads of one group that a thread block walks together, up to 128 channels. A walk costs about one unit for
/// what the heads share (the tiles of B and C, barriers) and one a head, and multiprocessors take one block
/// at a time: what counts is the number of waves. On 132 of them 8 x 64 heads are quickest by fours (128
/// blocks), 16 x 48 by threes (two waves of shorter blocks).
constexpr int heads_together(const SsdShape& shape, int64_t multiprocessors) {
  int best = 1;
  int64_t best_cost = 0;
  for (int heads = 1; heads <= 128 / shape.head_dim; ++heads) {
    if (shape.heads / shape.groups % heads != 0) continue;
    const int64_t blocks = shape.rows * shape.heads / heads;
    const int64_t cost = (blocks + multiprocessors - 1) / multiprocessors * (1 + heads);
    if (best_cost != 0 && cost > best_cost) continue;
    best = heads;
    best_cost = cost;
  }
  return best;
}

/// Calls function.operator()<P, N, kHeads>() with the heads_together() of the current device.
template <typename Function>
cudaError_t for_walked_heads(const SsdShape& shape, Function function) {
  int device = 0, multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  error = cudaErrorInvalidValue;
  const int heads = heads_together(shape, multiprocessors);
  for_fast_shape(shape, [&]<int P, int N>() {
    if constexpr (P <= 32) {
      if (heads == 4) return void(error = function.template operator()<P, N, 4>());
      if (heads == 3) return void(error = function.template operator()<P, N, 3>());
    }
    error = heads == 2 ? function.template operator()<P, N, 2>() : function.template operator()<P, N, 1>();
  });
  return error;
}

inline int64_t images_bytes(const SsdShape& shape) {
  return shape.rows * tiles_of(shape.length) * shape.heads * shape.head_dim * shape.state * 2;
}

/// SsdForward::saved.
struct FastSaved {
  DecayTable table;
  char* states;  // images [B, tiles, H] of the state before each tile

  static int64_t bytes(const SsdShape& shape) { return DecayTable::bytes(shape) + images_bytes(shape); }
  static FastSaved at(const void* memory, const SsdShape& shape) {
    char* const bytes = static_cast<char*>(const_cast<void*>(memory));
    return {DecayTable::at(bytes, shape), bytes + DecayTable::bytes(shape)};
  }
};

/// SsdBackward::workspace.
struct FastWorkspace {
  char* dstates;    // images [B, tiles, H] of the gradient of the state after each tile
  float* da_parts;  // [B, tiles, H]
  float* dd_parts;

  static int64_t parts(const SsdShape& shape) { return shape.rows * tiles_of(shape.length) * shape.heads; }
  static int64_t bytes(const SsdShape& shape) {
    return images_bytes(shape) + 2 * parts(shape) * int64_t{sizeof(float)};
  }
  static FastWorkspace at(void* memory, const SsdShape& shape) {
    char* const bytes = static_cast<char*>(memory);
    float* const floats = reinterpret_cast<float*>(bytes + images_bytes(shape));
    return {bytes, floats, floats + parts(shape)};
  }
};

cudaError_t fast_forward(const SsdForward& args, const FastSaved& saved, cudaStream_t stream);
cudaError_t fast_state_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                                cudaStream_t stream);
cudaError_t fast_main_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                               cudaStream_t stream);
/// target[h] = Σ parts[i, h] for two arrays at once, in one fixed order.
cudaError_t sum_parts(const float* da_parts, const float* dd_parts, int64_t count, int64_t heads, float* da,
                      float* dd, cudaStream_t stream);

}  // namespace dm::kernels::cuda
