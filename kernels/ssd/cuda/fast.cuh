#pragma once
// The fast path's launches, one file per pass so that they compile side by side. Shapes and arguments are as
// the caller has them, but for what the kernels themselves are told (fast_shape.cuh).

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/ssd/cuda/decay.cuh"
#include "kernels/ssd/cuda/fast_shape.cuh"
#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

/// Heads of one group that a thread block walks together, up to 128 channels. A walk costs about one unit for
/// what the heads share (the tiles of B and C, barriers) and one a head, and multiprocessors take one block
/// at a time: what counts is the number of waves. On 132 of them 8 x 64 heads are quickest by fours (128
/// blocks), 16 x 48 by threes (two waves of shorter blocks).
constexpr int heads_together(const SsdShape& given, int64_t multiprocessors) {
  const SsdShape shape = folded(given);
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
  /// Of a walk, in the units of heads_together(); `shape` has the kernels' heads.
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
constexpr WalkCut passage_cut(const SsdShape& given) {
  const SsdShape shape = folded(given);
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
constexpr WalkCut pass_cut(const SsdShape& given, int64_t multiprocessors) {
  const SsdShape shape = folded(given);
  const WalkCut whole{heads_together(shape, kSegmentedFor), 1}, cut = passage_cut(shape);
  const bool gains =
      cut.segments > 1 && 8 * cut.cost(shape, kSegmentedFor) < 5 * whole.cost(shape, kSegmentedFor);
  return gains ? cut : WalkCut{heads_together(shape, multiprocessors), 1};
}

/// Calls function.operator()<P, N, kHeads>().
template <typename Function>
void for_heads(const SsdShape& shape, const StateSlice& slice, int heads, Function function) {
  for_fast_kernel(shape, slice, [&]<int P, int N>() {
    if constexpr (P <= 32) {
      if (heads == 4) return function.template operator()<P, N, 4>();
      if (heads == 3) return function.template operator()<P, N, 3>();
    }
    if (heads == 2) return function.template operator()<P, N, 2>();
    function.template operator()<P, N, 1>();
  });
}

/// Of the current device.
cudaError_t count_multiprocessors(int& count);

/// Of states in bfloat16, one before or after each tile: those of the first slice, then those of the next.
constexpr int64_t images_before(const SsdShape& shape, const StateSlice& slice) {
  return shape.rows * tiles_of(shape.length) * shape.heads * shape.head_dim * slice.begin * 2;
}
inline int64_t images_bytes(const SsdShape& shape) {
  return shape.rows * tiles_of(shape.length) * shape.heads * shape.head_dim * shape.state * 2;
}

/// SsdForward::saved.
struct FastSaved {
  DecayTable table;
  char* states;  // images [slices, B, tiles, H] of the state before each tile

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

/// SsdBackward::workspace. H here are the kernels' heads.
struct FastWorkspace {
  char* dstates;     // images [slices, B, tiles, H] of the gradient of the state after each tile
  float* da_parts;   // [slices, B, tiles, H]
  float* dd_parts;   // likewise; D stands in the first slice alone
  float* ddt_parts;  // [slices, B, L, H]; null where that is the gradient of Δ itself
  void* segments;

  static int64_t parts(const SsdShape& shape) {
    return shape.rows * tiles_of(shape.length) * folded(shape).heads;
  }
  static int64_t ddt_count(const SsdShape& shape) {
    const int64_t parts = slices_of(shape) * fold_of(shape);
    return parts == 1 ? 0 : parts * shape.rows * shape.length * shape.heads;
  }
  static int64_t floats(const SsdShape& shape) {
    return 2 * slices_of(shape) * parts(shape) + ddt_count(shape);
  }
  static int64_t bytes(const SsdShape& shape) {
    return images_bytes(shape) + floats(shape) * int64_t{sizeof(float)} + WalkSegments::bytes(shape);
  }
  static FastWorkspace at(void* memory, const SsdShape& shape) {
    char* const bytes = static_cast<char*>(memory);
    float* const da = reinterpret_cast<float*>(bytes + images_bytes(shape));
    float* const dd = da + slices_of(shape) * parts(shape);
    float* const ddt = dd + slices_of(shape) * parts(shape);
    return {bytes, da, dd, ddt_count(shape) == 0 ? nullptr : ddt, da + floats(shape)};
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
/// da[h] = Σ da_parts[i, h, j], `count` of them, `fold` of each; dd likewise.
struct HeadSums {
  const float* da_parts;
  const float* dd_parts;
  int64_t da_count, dd_count;
  int64_t heads, fold;
};
/// In one fixed order.
cudaError_t sum_parts(const HeadSums& sums, float* da, float* dd, cudaStream_t stream);

}  // namespace dm::kernels::cuda
