#pragma once
// The forward pass in one walk along the sequence, 64 tokens a step. A thread block has one row, or a segment
// of it, and a few heads of one group, a warpgroup a head; the heads share the tiles of B and C and the
// product C Bᵀ. Per step and head
//   Y  = e ∘ (C S) + (L ∘ C Bᵀ ∘ Δ) X + D X      S [N, P] the state before the tile, e the decay since then
//   S' = exp(Σ Δ a) S + Bᵀ (w ∘ X)               w = Δ times the decay up to the tile's end
// S stays in float32 accumulators for the whole row; its bfloat16 image in shared memory is the operand of
// the next step and what is saved for the backward pass. P and N here are the kernel's; what other shapes
// become of them stands in fast_shape.cuh.

#include "kernels/ssd/cuda/head_tile.cuh"

namespace dm::kernels::cuda {

struct ForwardMaps {
  CUtensorMap x, b, c, y;
};

template <int P, int N, int kHeads>
struct ForwardLayout {
  static constexpr int kStages = 3;
  using Rows = Tile<kTile, N>;
  using Channels = Tile<kTile, P>;
  using Image = Tile<N, P>;
  // One stage of the pipeline; y leaves from x's place.
  static constexpr int kC = 0;
  static constexpr int kB = kC + Rows::kBytes;
  static constexpr int kX = kB + Rows::kBytes;
  static constexpr int kDecay = kX + kHeads * Channels::kBytes;
  static constexpr int kLoadBytes = kDecay + kHeads * int{sizeof(DecayRecord)};
  static constexpr int kStageBytes = (kLoadBytes + 1023) / 1024 * 1024;
  // The rest.
  static constexpr int kImage = kStages * kStageBytes;
  static constexpr int kScaled = kImage + kHeads * Image::kBytes;
  static constexpr int kCb = kScaled + kHeads * Channels::kBytes;
  static constexpr int kCbBytes =
      10 * 1024;  // C Bᵀ on and below the diagonal in blocks of 16 x 16, of this step and the one before
  static constexpr int kBarriers = kCb + 2 * kCbBytes;
  static constexpr int kBytes = kBarriers + 64 + 1024;  // 1024 to align
};

template <int P, int N, int kHeads>
__global__ void __launch_bounds__(kWarpgroup* kHeads, 1)
    ssd_forward_kernel(const SsdForward args, const StateSlice slice, const DecayTable table,
                       char* const states, const float* const starts,
                       const __grid_constant__ ForwardMaps maps) {
  using L = ForwardLayout<P, N, kHeads>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  using Image = typename L::Image;
  extern __shared__ char memory[];
  const Shared shared = Shared::aligned(memory);
  const SsdShape& shape = args.in.shape;
  const int row = blockIdx.y, tiles = static_cast<int>(tiles_of(shape.length));
  const int segments = gridDim.z, segment = blockIdx.z, begin = segment_begin(tiles, segments, segment),
            steps = segment_begin(tiles, segments, segment + 1) - begin;
  const int thread = threadIdx.x, group = thread / kWarpgroup, mine = thread % kWarpgroup;
  const int warp = mine / 32, lane = thread % 32, q = lane % 4, r = warp * 16 + lane / 4;
  const int first_head = blockIdx.x * kHeads, head = first_head + group;
  const int bc_group = first_head / static_cast<int>(shape.heads / shape.groups);

  const auto arrival = [&](int step) {
    return Mbarrier{shared.address + L::kBarriers + step % L::kStages * 8};
  };
  const auto load = [&](int step) {
    if (step >= steps) return;
    const int tile = begin + step;
    const uint32_t stage = shared.address + step % L::kStages * L::kStageBytes;
    const Mbarrier full = arrival(step);
    full.arrive_expecting(L::kLoadBytes);
    load_states<N>(stage + L::kC, maps.c, slice, bc_group, tile * kTile, row, full);
    load_states<N>(stage + L::kB, maps.b, slice, bc_group, tile * kTile, row, full);
    for (int h = 0; h < kHeads; ++h)
      load_tile<P>(stage + L::kX + h * Channels::kBytes, maps.x, (first_head + h) * P, tile * kTile, row,
                   full);
    bulk_load(stage + L::kDecay, table.records + (int64_t{row} * tiles + tile) * shape.heads + first_head,
              kHeads * int{sizeof(DecayRecord)}, full);
    if (slice.first()) return;
    for (int h = 0; h < kHeads; ++h)  // what TileBefore will read
      tma_prefetch(maps.y, (first_head + h) * P, tile * kTile, row);
  };
  if (thread == 0) {
    for (int i = 0; i < L::kStages; ++i) arrival(i).init(1);
    Mbarrier::fence_init();
  }
  __syncthreads();
  if (thread == 0)
    for (int step = 0; step < L::kStages - 1; ++step) load(step);

  char* const image = shared.base + L::kImage + group * Image::kBytes;
  char* const scaled = shared.base + L::kScaled + group * Channels::kBytes;
  const uint32_t image_address = shared.address + L::kImage + group * Image::kBytes;
  const uint32_t scaled_address = shared.address + L::kScaled + group * Channels::kBytes;
  const float skip = args.in.d[head];
  const int columns = static_cast<int>(shape.state);
  const auto state_of = [&](int part) {
    return ((part * shape.rows + row) * shape.heads + head) * P * columns;
  };
  const uint64_t* const begins = table.begins + int64_t{row} * tiles + begin;

  State<P, N> state;
  state.load(starts == nullptr ? nullptr : starts + state_of(segment), slice, columns, mine);
  state.store_image(image, mine);
  const auto save = [&](int step) {
    if (states != nullptr)
      bulk_store(states + image_offset<P>(shape, slice, row, begin + step, head), image_address,
                 image_bytes<P>(slice));
  };
  fence_async();
  warpgroup_barrier(group);
  if (mine == 0) {
    save(0);
    bulk_commit();
  }

  Documents next{begins[0]};
  for (int step = 0; step < steps; ++step) {
    const Documents documents = next;
    if (step + 1 < steps) next.begins = begins[step + 1];
    char* const stage = shared.base + step % L::kStages * L::kStageBytes;
    const uint32_t stage_address = shared.address + step % L::kStages * L::kStageBytes;
    char* const x_tile = stage + L::kX + group * Channels::kBytes;
    const uint32_t x_address = stage_address + L::kX + group * Channels::kBytes;
    const DecayRecord& decay = reinterpret_cast<const DecayRecord*>(stage + L::kDecay)[group];
    arrival(step).wait(step / L::kStages & 1);

    // C Bᵀ, its columns dealt out to the warpgroups 16 at a time, and C S.
    constexpr int kSlices = (kTile / 16 + kHeads - 1) / kHeads;
    float out[P / 2], product[kSlices][8];
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kSlices; ++i)
#pragma unroll
      for (int k = 0; k < N / 16; ++k)
        Wgmma<16>::shared<0, 0>(
            product[i], Rows::along_rows(stage_address + L::kC, 0, 16 * k),
            Rows::along_rows(stage_address + L::kB, 16 * min(group + i * kHeads, kTile / 16 - 1), 16 * k),
            k > 0);
    wgmma_commit();
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      Wgmma<P>::template shared<0, 1>(out, Rows::along_rows(stage_address + L::kC, 0, 16 * k),
                                      Image::down_columns(image_address, 16 * k, 0), k > 0);
    wgmma_commit();
    scale_rows<P>(scaled, x_tile, mine,
                  [&](int t) { return decay_after(decay, documents, t) * decay.dt[t]; });
    fence_async();

    wgmma_wait<1>();
    // Block (rows 16 w, columns 16 k) in the order of accumulators: what a lane writes here, the same lane of
    // warp w reads.
    float4* const cb = reinterpret_cast<float4*>(shared.base + L::kCb + step % 2 * L::kCbBytes) + lane;
#pragma unroll
    for (int i = 0; i < kSlices; ++i) {
      wgmma_pin(product[i]);
      const int k = group + i * kHeads;
      float4* const block = cb + (warp * (warp + 1) / 2 + k) * 64;
      if (k > warp) continue;
      block[0] = {product[i][0], product[i][1], product[i][2], product[i][3]};
      block[32] = {product[i][4], product[i][5], product[i][6], product[i][7]};
    }
    if (mine == 0) bulk_wait_read<0>();  // y and the image of the tile before have left
    __syncthreads();
    if (thread == 0) load(step + L::kStages - 1);

    // The state moves on while the scores are made.
    wgmma_wait<0>();
    wgmma_pin(out);
    state.scale(decay_through(decay, documents));
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k)
#pragma unroll
      for (int m = 0; m < N / 64; ++m)
        Wgmma<P>::template shared<1, 1>(state.d[m], Rows::down_columns(stage_address + L::kB, 16 * k, 64 * m),
                                        Channels::down_columns(scaled_address, 16 * k, 0), 1);
    wgmma_commit();

    const float before[2] = {decay_before(decay, documents, r), decay_before(decay, documents, r + 8)};
    const float sum[2] = {decay.sum[r], decay.sum[r + 8]};
    const int first[2] = {documents.first(r), documents.first(r + 8)};
#pragma unroll
    for (int i = 0; i < P / 2; ++i) out[i] *= before[i % 4 / 2];
    wgmma_pin(out);
    uint32_t scores[4][4];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      scores[j / 2][j % 2 * 2] = scores[j / 2][j % 2 * 2 + 1] = 0;
      if (j / 2 > warp) continue;
      const int s = 8 * j + 2 * q;
      const float2 from = *reinterpret_cast<const float2*>(decay.sum + s);
      const float2 delta = *reinterpret_cast<const float2*>(decay.dt + s);
      const float4 products = cb[(warp * (warp + 1) / 2 + j / 2) * 64 + j % 2 * 32];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int t = r + 8 * half;
        const float2 product =
            half == 0 ? make_float2(products.x, products.y) : make_float2(products.z, products.w);
        const unsigned reach = t - first[half];
        const float l0 = exp2_fast(unsigned(s - first[half]) <= reach ? sum[half] - from.x : kMinusInfinity);
        const float l1 =
            exp2_fast(unsigned(s + 1 - first[half]) <= reach ? sum[half] - from.y : kMinusInfinity);
        scores[j / 2][j % 2 * 2 + half] = pack(product.x * delta.x * l0, product.y * delta.y * l1);
      }
    }
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      Wgmma<P>::template registers<1>(out, scores[k], Channels::down_columns(x_address, 16 * k, 0), 1);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(out);
    state.pin();
    warpgroup_barrier(group);  // all four warps have read x and the image

    const auto leave = [&](auto pair_of) {
#pragma unroll
      for (int i = 0; i < P / 2; i += 2) {
        const int t = r + i % 4 * 4, column = i / 4 * 8 + 2 * q;
        uint32_t* const at = reinterpret_cast<uint32_t*>(x_tile + Channels::offset(t, column));
        const uint32_t pair = pair_of(at, t, column);
        *at = pack(out[i] + skip * low(pair), out[i + 1] + skip * high(pair));
      }
    };
    if (slice.first()) {
      leave([](const uint32_t* x, int, int) { return *x; });
    } else {
      const int64_t token = int64_t{begin + step} * kTile;
      const TileBefore before_this{
          static_cast<const bf16*>(args.y) + (row * shape.length + token) * args.y_stride + head * P,
          args.y_stride, static_cast<int>(min(int64_t{kTile}, shape.length - token))};
      leave([&](const uint32_t*, int t, int column) { return before_this.pair(t, column); });
    }
    state.store_image(image, mine);
    fence_async();
    warpgroup_barrier(group);
    if (mine == 0) {
      tma_store(maps.y, head * P, (begin + step) * kTile, row, x_address);
      if (step + 1 < steps) save(step + 1);
      bulk_commit();
    }
  }
  if (args.final_state != nullptr && segment + 1 == segments)
    state.store(args.final_state + state_of(0), slice, columns, mine);
  if (mine == 0) bulk_wait_all();
}

}  // namespace dm::kernels::cuda
