#pragma once
// The gradient of the state, walked from the end of the row to its begin, 64 tokens a step:
//   dS = exp(Σ Δ a) dS' + Cᵀ (e ∘ dY)
// A thread block has one row and a few heads of one group, a warpgroup a head. What is saved for a tile is
// the gradient with respect to the state after it, in the forward pass's layout.

#include "kernels/ssd/cuda/head_tile.cuh"

namespace dm::kernels::cuda {

struct StateMaps {
  CUtensorMap c, dy;
};

template <int P, int N, int kHeads>
struct StateLayout {
  static constexpr int kStages = 3;
  using Rows = Tile<kTile, N>;
  using Channels = Tile<kTile, P>;
  using Image = Tile<N, P>;
  // One stage of the pipeline; dY is scaled in place.
  static constexpr int kC = 0;
  static constexpr int kDy = kC + Rows::kBytes;
  static constexpr int kDecay = kDy + kHeads * Channels::kBytes;
  static constexpr int kLoadBytes = kDecay + kHeads * int{sizeof(DecayRecord)};
  static constexpr int kStageBytes = (kLoadBytes + 1023) / 1024 * 1024;
  static constexpr int kImage = kStages * kStageBytes;  // two a head
  static constexpr int kBarriers = kImage + 2 * kHeads * Image::kBytes;
  static constexpr int kBytes = kBarriers + 64 + 1024;
};

template <int P, int N, int kHeads>
__global__ void __launch_bounds__(kWarpgroup* kHeads, 1)
    ssd_state_kernel(const SsdBackward args, const DecayTable table, char* const saved,
                     const __grid_constant__ StateMaps maps) {
  using L = StateLayout<P, N, kHeads>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  using Image = typename L::Image;
  extern __shared__ char memory[];
  const Shared shared = Shared::aligned(memory);
  const SsdShape& shape = args.in.shape;
  const int row = blockIdx.y, tiles = static_cast<int>(tiles_of(shape.length));
  const int thread = threadIdx.x, group = thread / kWarpgroup, mine = thread % kWarpgroup;
  const int first_head = blockIdx.x * kHeads, head = first_head + group;
  const int bc_column = first_head / static_cast<int>(shape.heads / shape.groups) * N;

  // Steps count up, tiles down.
  const auto arrival = [&](int step) {
    return Mbarrier{shared.address + L::kBarriers + step % L::kStages * 8};
  };
  const auto load = [&](int step) {
    const int tile = tiles - 1 - step;
    if (tile < 0) return;
    const uint32_t stage = shared.address + step % L::kStages * L::kStageBytes;
    const Mbarrier full = arrival(step);
    full.arrive_expecting(L::kLoadBytes);
    load_tile<N>(stage + L::kC, maps.c, bc_column, tile * kTile, row, full);
    for (int h = 0; h < kHeads; ++h)
      load_tile<P>(stage + L::kDy + h * Channels::kBytes, maps.dy, (first_head + h) * P, tile * kTile, row,
                   full);
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

  const int64_t state_at = (row * shape.heads + head) * int64_t(P * N);
  const uint64_t* const begins = table.begins + int64_t{row} * tiles;
  State<P, N> state;
  state.load(args.dfinal_state == nullptr ? nullptr : args.dfinal_state + state_at, mine);
  Documents next{begins[tiles - 1]};
  for (int step = 0; step < tiles; ++step) {
    const int tile = tiles - 1 - step;
    const Documents documents = next;
    if (tile > 0) next.begins = begins[tile - 1];
    char* const stage = shared.base + step % L::kStages * L::kStageBytes;
    const uint32_t stage_address = shared.address + step % L::kStages * L::kStageBytes;
    char* const dy = stage + L::kDy + group * Channels::kBytes;
    const int image_at = L::kImage + (2 * group + step % 2) * Image::kBytes;
    const DecayRecord& decay = reinterpret_cast<const DecayRecord*>(stage + L::kDecay)[group];
    if (mine == 0) bulk_wait_read<1>();  // the image two steps before has left
    __syncthreads();                     // and the stage before is free
    if (thread == 0) load(step + L::kStages - 1);
    arrival(step).wait(step / L::kStages & 1);

    scale_rows<P>(dy, dy, mine, [&](int t) { return decay_before(decay, documents, t); });
    state.store_image(shared.base + image_at, mine);
    fence_async();
    warpgroup_barrier(group);
    if (mine == 0) {
      bulk_store(saved + image_offset<P, N>(shape, row, tile, head), shared.address + image_at,
                 Image::kBytes);
      bulk_commit();
    }
    state.scale(decay_through(decay, documents));
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k)
#pragma unroll
      for (int m = 0; m < N / 64; ++m)
        Wgmma<P>::template shared<1, 1>(
            state.d[m], Rows::down_columns(stage_address + L::kC, 16 * k, 64 * m),
            Channels::down_columns(stage_address + L::kDy + group * Channels::kBytes, 16 * k, 0), 1);
    wgmma_commit();
    wgmma_wait<0>();
    state.pin();
  }
  if (args.dinitial_state != nullptr) state.store(args.dinitial_state + state_at, mine);
  if (mine == 0) bulk_wait_all();
}

}  // namespace dm::kernels::cuda
