#pragma once
// The walk over the states alone, 64 tokens a step: the state along the row,
//   S' = exp(Σ Δ a) S + Bᵀ (w ∘ X)       w = Δ times the decay up to the tile's end
// or its gradient from the row's end to its begin,
//   dS = exp(Σ Δ a) dS' + Cᵀ (e ∘ dY)    e the decay since the tile's begin
// A thread block has one row, a few heads of one group, a warpgroup a head, and all tiles of the row or,
// where rows and heads are few, a segment of them. What may be saved for a tile is the gradient with respect
// to the state after it, in the forward pass's layout.

#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/head_tile.cuh"
#include "kernels/ssd/cuda/tensor_map.cuh"

namespace dm::kernels::cuda {

struct StateMaps {
  CUtensorMap rows, channels;  // B and X, or C and dY
};

struct StateWalk {
  SsdShape shape;      // with the kernels' heads
  const float* start;  // [segments, B, H, P, N], or null for zero
  float* end;          // [segments, B, H, P, N], or null
  float* decay;        // [segments, B, H / fold]: of the whole walk; or null
  int64_t fold;        // of the kernels' heads are one head
  char* images;        // of the state before each step, or null
};

template <int P, int N, int kHeads>
struct StateLayout {
  static constexpr int kStages = 3;
  using Rows = Tile<kTile, N>;
  using Channels = Tile<kTile, P>;
  using Image = Tile<N, P>;
  // One stage of the pipeline; the channels are scaled in place.
  static constexpr int kRows = 0;
  static constexpr int kChannels = kRows + Rows::kBytes;
  static constexpr int kDecay = kChannels + kHeads * Channels::kBytes;
  static constexpr int kLoadBytes = kDecay + kHeads * int{sizeof(DecayRecord)};
  static constexpr int kStageBytes = (kLoadBytes + 1023) / 1024 * 1024;
  static constexpr int kImage = kStages * kStageBytes;  // two a head
  static constexpr int kBarriers = kImage + 2 * kHeads * Image::kBytes;
  static constexpr int kBytes = kBarriers + 64 + 1024;
};

template <int P, int N, int kHeads, bool kForward>
__global__ void __launch_bounds__(kWarpgroup* kHeads, 1)
    ssd_state_kernel(const StateWalk walk, const StateSlice slice, const DecayTable table,
                     const __grid_constant__ StateMaps maps) {
  using L = StateLayout<P, N, kHeads>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  using Image = typename L::Image;
  extern __shared__ char memory[];
  const Shared shared = Shared::aligned(memory);
  const SsdShape& shape = walk.shape;
  const int row = blockIdx.y, tiles = static_cast<int>(tiles_of(shape.length));
  const int segments = gridDim.z, segment = blockIdx.z, begin = segment_begin(tiles, segments, segment),
            steps = segment_begin(tiles, segments, segment + 1) - begin;
  const int thread = threadIdx.x, group = thread / kWarpgroup, mine = thread % kWarpgroup;
  const int first_head = blockIdx.x * kHeads, head = first_head + group;
  const int bc_group = first_head / static_cast<int>(shape.heads / shape.groups);

  const auto tile_of = [&](int step) { return begin + (kForward ? step : steps - 1 - step); };
  const auto arrival = [&](int step) {
    return Mbarrier{shared.address + L::kBarriers + step % L::kStages * 8};
  };
  const auto load = [&](int step) {
    if (step >= steps) return;
    const int tile = tile_of(step);
    const uint32_t stage = shared.address + step % L::kStages * L::kStageBytes;
    const Mbarrier full = arrival(step);
    full.arrive_expecting(L::kLoadBytes);
    load_states<N>(stage + L::kRows, maps.rows, slice, bc_group, tile * kTile, row, full);
    for (int h = 0; h < kHeads; ++h)
      load_tile<P>(stage + L::kChannels + h * Channels::kBytes, maps.channels, (first_head + h) * P,
                   tile * kTile, row, full);
    bulk_load(stage + L::kDecay, table.records + (int64_t{row} * tiles + tile) * shape.heads + first_head,
              kHeads * int{sizeof(DecayRecord)}, full);
  };
  if (thread == 0) {
    for (int i = 0; i < L::kStages; ++i) arrival(i).init(1);
    Mbarrier::fence_init();
  }
  __syncthreads();
  if (thread == 0)
    for (int step = 0; step < L::kStages - 1; ++step) load(step);

  const int64_t part = (int64_t{segment} * shape.rows + row) * shape.heads + head;
  const int columns = static_cast<int>(shape.state);
  const uint64_t* const begins = table.begins + int64_t{row} * tiles;
  State<P, N> state;
  state.load(walk.start == nullptr ? nullptr : walk.start + part * P * columns, slice, columns, mine);
  float through = 1.f;
  Documents next{begins[tile_of(0)]};
  for (int step = 0; step < steps; ++step) {
    const Documents documents = next;
    if (step + 1 < steps) next.begins = begins[tile_of(step + 1)];
    char* const stage = shared.base + step % L::kStages * L::kStageBytes;
    const uint32_t stage_address = shared.address + step % L::kStages * L::kStageBytes;
    char* const channels = stage + L::kChannels + group * Channels::kBytes;
    const int image_at = L::kImage + (2 * group + step % 2) * Image::kBytes;
    const DecayRecord& decay = reinterpret_cast<const DecayRecord*>(stage + L::kDecay)[group];
    if (mine == 0) bulk_wait_read<1>();  // the image two steps before has left
    __syncthreads();                     // and the stage before is free
    if (thread == 0) load(step + L::kStages - 1);
    arrival(step).wait(step / L::kStages & 1);

    scale_rows<P>(channels, channels, mine, [&](int t) {
      return kForward ? decay_after(decay, documents, t) * decay.dt[t] : decay_before(decay, documents, t);
    });
    if (walk.images != nullptr) state.store_image(shared.base + image_at, mine);
    fence_async();
    warpgroup_barrier(group);
    if (walk.images != nullptr && mine == 0) {
      bulk_store(walk.images + image_offset<P>(shape, slice, row, tile_of(step), head),
                 shared.address + image_at, image_bytes<P>(slice));
      bulk_commit();
    }
    const float carried = decay_through(decay, documents);
    through *= carried;
    state.scale(carried);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k)
#pragma unroll
      for (int m = 0; m < N / 64; ++m)
        Wgmma<P>::template shared<1, 1>(
            state.d[m], Rows::down_columns(stage_address + L::kRows, 16 * k, 64 * m),
            Channels::down_columns(stage_address + L::kChannels + group * Channels::kBytes, 16 * k, 0), 1);
    wgmma_commit();
    wgmma_wait<0>();
    state.pin();
  }
  if (walk.end != nullptr) state.store(walk.end + part * P * columns, slice, columns, mine);
  if (walk.decay != nullptr && mine == 0 && part % walk.fold == 0) walk.decay[part / walk.fold] = through;
  if (mine == 0) bulk_wait_all();
}

/// `rows` and `channels` as maps.rows and maps.channels; `cut` says how many heads and segments.
template <bool kForward>
cudaError_t launch_state_walk(StateWalk walk, const WalkCut& cut, const DecayTable& table, const void* rows,
                              int64_t rows_stride, const void* channels, int64_t channels_stride,
                              cudaStream_t stream) {
  const SsdShape& shape = walk.shape;
  StateMaps maps;
  cudaError_t error = make_state_map(maps.rows, rows, shape, rows_stride);
  if (error == cudaSuccess) error = make_channel_map(maps.channels, channels, shape, channels_stride);
  char* const images = walk.images;
  for (int64_t i = 0; i < slices_of(shape) && error == cudaSuccess; ++i) {
    const StateSlice slice = slice_at(shape, i);
    if (images != nullptr) walk.images = images + images_before(shape, slice);
    for_heads(shape, slice, cut.heads, [&]<int P, int N, int kHeads>() {
      const auto kernel = ssd_state_kernel<P, N, kHeads, kForward>;
      constexpr int kBytes = StateLayout<P, N, kHeads>::kBytes;
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      if (error != cudaSuccess) return;
      const dim3 grid(static_cast<unsigned>(shape.heads / kHeads), static_cast<unsigned>(shape.rows),
                      static_cast<unsigned>(cut.segments));
      kernel<<<grid, kHeads * kWarpgroup, kBytes, stream>>>(walk, slice, table, maps);
      error = cudaGetLastError();
    });
  }
  return error;
}

/// A walk of a passage: from `start` to its end, or each segment from zero.
inline StateWalk passage_walk(const SsdShape& shape, const WalkSegments& segments, const float* start,
                              float* state, float* decay) {
  const bool whole = segments.count == 1;
  return {.shape = folded(shape),
          .start = whole ? start : nullptr,
          .end = whole ? state : segments.states,
          .decay = whole ? decay : segments.decays,
          .fold = fold_of(shape),
          .images = nullptr};
}

}  // namespace dm::kernels::cuda
