#pragma once
// The gradient of the state, walked from the end of the row to its begin, 64 tokens a step:
//   dS = exp(Σ Δ a) dS' + Cᵀ (e ∘ dY)
// A thread block has one row and a few heads of one group, a warpgroup a head. What is saved for a tile is the gradient
// with respect to the state after it, in the forward pass's layout.

#include "kernels/ssd/cuda/head_tile.cuh"
#include "kernels/ssd/cuda/wgmma.cuh"

namespace dm::kernels::cuda {

template <int P, int N>
struct StateLayout {
  static constexpr int kMaxHeads = 128 / P;
  static constexpr int kStages = 3;
  using Rows = Tile<kTile, N>;
  using Channels = Tile<kTile, P>;
  using Image = Tile<N, P>;
  static constexpr int kC = 0;
  static constexpr int kDy = kC + Rows::kBytes;
  static constexpr int kDt = kDy + kMaxHeads * Channels::kBytes;
  static constexpr int kIds = kDt + kMaxHeads * kTile * 4;
  static constexpr int kStageBytes = (kIds + 65 * 4 + 1023) / 1024 * 1024;
  static constexpr int kImage = kStages * kStageBytes;
  static constexpr int kScaled = kImage + kMaxHeads * Image::kBytes;
  static constexpr int kFactor = kScaled + kMaxHeads * Channels::kBytes;
  static constexpr int kBytes = kFactor + kMaxHeads * 4 * kTile * 4 + 1024;
};

template <int P, int N>
__global__ void __launch_bounds__(128 * (128 / P), 1) ssd_state_kernel(const SsdBackward args, const int heads) {
  using L = StateLayout<P, N>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  using Image = typename L::Image;
  extern __shared__ char unaligned[];
  char* const shared = unaligned + (1024 - (__cvta_generic_to_shared(unaligned) & 1023)) % 1024;
  const uint32_t shared_address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));

  const SsdInputs& in = args.in;
  const int64_t length = in.shape.length, row = blockIdx.y, token0 = row * length, tiles = tiles_of(length);
  const int thread = threadIdx.x, group = thread / kWarpgroup, mine = thread % kWarpgroup, lane = thread % 32;
  const int first_head = blockIdx.x * heads, head = first_head + group;
  const int64_t bc_group = first_head / (in.shape.heads / in.shape.groups);
  const bf16* const dy = static_cast<const bf16*>(args.dy) + token0 * args.dy_stride + first_head * P;
  const bf16* const c = static_cast<const bf16*>(in.c) + token0 * in.c_stride + bc_group * N;
  const float* const dt = in.dt + token0 * in.shape.heads + first_head;
  const int32_t* const ids = in.seq_idx + token0;

  const auto load = [&](int64_t tile) {  // stages are used in turn, tiles from the last to the first
    if (tile >= 0) {
      const int64_t begin = tile * kTile;
      const uint32_t stage = shared_address + (tiles - 1 - tile) % L::kStages * L::kStageBytes;
      const int valid = static_cast<int>(min(int64_t(kTile), length - begin));
      load_tile<N>(stage + L::kC, c + begin * in.c_stride, in.c_stride, valid, thread, blockDim.x);
      for (int h = 0; h < heads; ++h)
        load_tile<P>(stage + L::kDy + h * Channels::kBytes, dy + begin * args.dy_stride + h * P, args.dy_stride, valid,
                     thread, blockDim.x);
      for (int i = thread; i < heads * kTile; i += blockDim.x) {
        const int t = i / heads, h = i % heads;
        copy4(stage + L::kDt + (h * kTile + t) * 4, dt + (begin + (t < valid ? t : 0)) * in.shape.heads + h, t < valid);
      }
      if (thread < 65) copy4(stage + L::kIds + thread * 4, ids + id_token(begin, thread, length), true);
    }
    copy_commit();
  };
  for (int i = 0; i < L::kStages - 1; ++i) load(tiles - 1 - i);

  char* const image = shared + L::kImage + group * Image::kBytes;
  char* const scaled = shared + L::kScaled + group * Channels::kBytes;
  const uint32_t scaled_address = shared_address + L::kScaled + group * Channels::kBytes;
  float* const factor = reinterpret_cast<float*>(shared + L::kFactor) + thread / 32 * kTile;
  const float a_log2 = in.a[head] * kLog2E;
  const int64_t state_at = (row * in.shape.heads + head) * int64_t(P * N);
  char* const saved = static_cast<char*>(args.workspace);

  State<P, N> state;
  state.load(args.dfinal_state == nullptr ? nullptr : args.dfinal_state + state_at, mine);
  for (int64_t tile = tiles - 1; tile >= 0; --tile) {
    copy_wait<L::kStages - 2>();
    __syncthreads();
    load(tile - (L::kStages - 1));
    char* const stage = shared + (tiles - 1 - tile) % L::kStages * L::kStageBytes;
    const uint32_t stage_address = shared_address + (tiles - 1 - tile) % L::kStages * L::kStageBytes;

    const Documents documents = Documents::of(reinterpret_cast<const int32_t*>(stage + L::kIds), lane);
    const Decay decay = Decay::of(reinterpret_cast<const float*>(stage + L::kDt) + group * kTile, a_log2, lane);
    reinterpret_cast<float2*>(factor)[lane] = decay.from_before(documents, lane);
    __syncwarp();
    scale_rows<P>(scaled, stage + L::kDy + group * Channels::kBytes, factor, mine);
    state.store_image(image, mine);
    fence_async();
    warpgroup_barrier(group);

    state.scale(decay.carry(documents));
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k)
#pragma unroll
      for (int m = 0; m < N / 64; ++m)
        Wgmma<P>::template shared<1, 1>(state.d[m], Rows::down_columns(stage_address + L::kC, 16 * k, 64 * m),
                                        Channels::down_columns(scaled_address, 16 * k, 0), 1);
    wgmma_commit();
    save_image(saved + image_offset<P, N>(in.shape, row, tile, head), image, Image::kBytes, mine);
    wgmma_wait<0>();
  }
  if (args.dinitial_state != nullptr) state.store(args.dinitial_state + state_at, mine);
}

}  // namespace dm::kernels::cuda
