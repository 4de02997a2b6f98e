#pragma once
// The fast path's launches, one file per pass so that they compile side by side.

#include <cuda_runtime_api.h>

#include <algorithm>

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

/// How a walk is cut: heads of a block, and segments of the row that start at once.
struct WalkCut {
  int heads, segments;
  /// Of a walk, in the units of heads_together().
  constexpr int64_t cost(const SsdShape& shape, int64_t multiprocessors) const {
    const int64_t blocks = shape.rows * shape.heads / heads * segments;
    return (blocks + multiprocessors - 1) / multiprocessors *
           ((tiles_of(shape.length) + segments - 1) / segments) * (1 + heads);
  }
};
/// The first tile of a segment.
__host__ __device__ constexpr int segment_begin(int tiles, int segments, int segment) {
  return static_cast<int>(int64_t{tiles} * segment / segments);
}

// Segments add in another order, so they depend on the shape alone: the same bits on every device.
constexpr int64_t kSegmentedFor = 132;   // multiprocessors
constexpr int64_t kShortestSegment = 4;  // tiles: shorter ones do little but start

/// The quickest walk over states alone.
constexpr WalkCut passage_cut(const SsdShape& shape) {
  WalkCut best{1, 1};
  for (int heads = 1; heads <= 128 / shape.head_dim; ++heads) {
    if (shape.heads / shape.groups % heads != 0) continue;
    const int64_t blocks = shape.rows * shape.heads / heads,
                  most = std::max<int64_t>(1, tiles_of(shape.length) / kShortestSegment);
    const WalkCut cut{heads, static_cast<int>(std::clamp<int64_t>(kSegmentedFor / blocks, 1, most))};
    if (cut.cost(shape, kSegmentedFor) <= best.cost(shape, kSegmentedFor)) best = cut;
  }
  return best;
}

/// Of a pass. Segments of it have to know what they start from, which takes a passage of some 60 per cent
/// of the pass before it: they are made where rows and heads are so few that it gains more.
constexpr WalkCut pass_cut(const SsdShape& shape, int64_t multiprocessors) {
  const WalkCut whole{heads_together(shape, kSegmentedFor), 1}, cut = passage_cut(shape);
  const bool gains =
      cut.segments > 1 && 8 * cut.cost(shape, kSegmentedFor) < 5 * whole.cost(shape, kSegmentedFor);
  return gains ? cut : WalkCut{heads_together(shape, multiprocessors), 1};
}

/// Calls function.operator()<P, N, kHeads>().
template <typename Function>
cudaError_t for_heads(const SsdShape& shape, int heads, Function function) {
  cudaError_t error = cudaErrorInvalidValue;
  for_fast_shape(shape, [&]<int P, int N>() {
    if constexpr (P <= 32) {
      if (heads == 4) return void(error = function.template operator()<P, N, 4>());
      if (heads == 3) return void(error = function.template operator()<P, N, 3>());
    }
    error = heads == 2 ? function.template operator()<P, N, 2>() : function.template operator()<P, N, 1>();
  });
  return error;
}

/// Of the current device.
cudaError_t count_multiprocessors(int& count);

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

/// What each segment of a passage does to a state; later what it starts from.
struct WalkSegments {
  int count;
  float* states;  // [count, B, H, P, N]
  float* decays;  // [count, B, H]

  static int64_t bytes(const SsdShape& shape) {
    const int64_t count = passage_cut(shape).segments;
    return count == 1 ? 0
                      : count * shape.rows * shape.heads * (shape.head_dim * shape.state + 1) *
                            int64_t{sizeof(float)};
  }
  static WalkSegments at(void* memory, const SsdShape& shape) {
    const int count = passage_cut(shape).segments;
    float* const floats = static_cast<float*>(memory);
    return {count, floats, floats + count * shape.rows * shape.heads * shape.head_dim * shape.state};
  }
};

/// SsdBackward::workspace.
struct FastWorkspace {
  char* dstates;    // images [B, tiles, H] of the gradient of the state after each tile
  float* da_parts;  // [B, tiles, H]
  float* dd_parts;
  void* segments;

  static int64_t parts(const SsdShape& shape) { return shape.rows * tiles_of(shape.length) * shape.heads; }
  static int64_t bytes(const SsdShape& shape) {
    return images_bytes(shape) + 2 * parts(shape) * int64_t{sizeof(float)} + WalkSegments::bytes(shape);
  }
  static FastWorkspace at(void* memory, const SsdShape& shape) {
    char* const bytes = static_cast<char*>(memory);
    float* const floats = reinterpret_cast<float*>(bytes + images_bytes(shape));
    return {bytes, floats, floats + parts(shape), floats + 2 * parts(shape)};
  }
};

/// `starts` [segments, B, H, P, N], or null for zero.
cudaError_t fast_forward(const SsdForward& args, const FastSaved& saved, const WalkCut& cut,
                         const float* starts, cudaStream_t stream);
cudaError_t fast_state_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                                const WalkCut& cut, const float* starts, cudaStream_t stream);
cudaError_t fast_main_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                               cudaStream_t stream);
/// The walks over states alone, forward and back, by passage_cut(): to segments, or where there is one to
/// `state` and `decay`, which may be null.
cudaError_t fast_state_walk(const SsdInputs& in, const FastSaved& saved, const WalkSegments& segments,
                            float* state, float* decay, cudaStream_t stream);
cudaError_t fast_gradient_walk(const SsdInputs& in, const void* dy, int64_t dy_stride,
                               const float* dfinal_state, const FastSaved& saved,
                               const WalkSegments& segments, float* state, float* decay, cudaStream_t stream);
/// From `start` (or zero) through the segments, in the order of the tokens or against it. To state [B, H, P,
/// N] and decay [B, H], the end of all and their product, where they are not null; with `chain` each
/// segment's state becomes what it starts from.
cudaError_t join_segments(const SsdShape& shape, const WalkSegments& segments, bool forward, bool chain,
                          const float* start, float* state, float* decay, cudaStream_t stream);
/// target[h] = Σ parts[i, h] for two arrays at once, in one fixed order.
cudaError_t sum_parts(const float* da_parts, const float* dd_parts, int64_t count, int64_t heads, float* da,
                      float* dd, cudaStream_t stream);

}  // namespace dm::kernels::cuda
