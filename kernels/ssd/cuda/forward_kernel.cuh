#pragma once
// The forward pass in one walk along the sequence, 64 tokens a step. A thread block has one row and a few heads of one
// group, a warpgroup a head; the heads share the tiles of B and C and the product C Bᵀ. Per step and head
//   Y  = e ∘ (C S) + (L ∘ C Bᵀ ∘ Δ) X + D X      S [N, P] the state before the tile, e the decay since then
//   S' = exp(Σ Δ a) S + Bᵀ (w ∘ X)               w = Δ times the decay up to the tile's end
// S stays in float32 accumulators for the whole row; its bfloat16 image in shared memory is the operand of the next
// step and what is saved for the backward pass.

#include "kernels/ssd/cuda/head_tile.cuh"
#include "kernels/ssd/cuda/wgmma.cuh"

namespace dm::kernels::cuda {

template <int P, int N>
struct ForwardLayout {
  static constexpr int kMaxHeads = 128 / P;
  static constexpr int kStages = 3;
  using Rows = Tile<kTile, N>;
  using Channels = Tile<kTile, P>;
  using Image = Tile<N, P>;
  // One stage of the pipeline.
  static constexpr int kC = 0;
  static constexpr int kB = kC + Rows::kBytes;
  static constexpr int kX = kB + Rows::kBytes;
  static constexpr int kDt = kX + kMaxHeads * Channels::kBytes;
  static constexpr int kIds = kDt + kMaxHeads * kTile * 4;
  static constexpr int kStageBytes = (kIds + 65 * 4 + 1023) / 1024 * 1024;
  // The rest.
  static constexpr int kImage = kStages * kStageBytes;
  static constexpr int kScaled = kImage + kMaxHeads * Image::kBytes;
  static constexpr int kCbStride = 72;  // floats: two rows further is not the same bank
  static constexpr int kCb = kScaled + kMaxHeads * Channels::kBytes;
  static constexpr int kSums = kCb + kTile * kCbStride * 4;        // per warp: log decay of each token ...
  static constexpr int kFactor = kSums + kMaxHeads * 4 * kTile * 4;  // ... and a factor of each token
  static constexpr int kBytes = kFactor + kMaxHeads * 4 * kTile * 4 + 1024;  // 1024 to align
};

template <int P, int N>
__global__ void __launch_bounds__(128 * (128 / P), 1) ssd_forward_kernel(const SsdForward args, const int heads) {
  using L = ForwardLayout<P, N>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  using Image = typename L::Image;
  extern __shared__ char unaligned[];
  char* const shared = unaligned + (1024 - (__cvta_generic_to_shared(unaligned) & 1023)) % 1024;
  const uint32_t shared_address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));

  const SsdInputs& in = args.in;
  const int64_t length = in.shape.length, row = blockIdx.y, token0 = row * length;
  const int thread = threadIdx.x, group = thread / kWarpgroup, mine = thread % kWarpgroup;
  const int warp = mine / 32, lane = thread % 32, q = lane % 4, r = warp * 16 + lane / 4;
  const int first_head = blockIdx.x * heads, head = first_head + group;
  const int64_t bc_group = first_head / (in.shape.heads / in.shape.groups);
  const bf16* const x = static_cast<const bf16*>(in.x) + token0 * in.x_stride + first_head * P;
  const bf16* const b = static_cast<const bf16*>(in.b) + token0 * in.b_stride + bc_group * N;
  const bf16* const c = static_cast<const bf16*>(in.c) + token0 * in.c_stride + bc_group * N;
  const float* const dt = in.dt + token0 * in.shape.heads + first_head;
  const int32_t* const ids = in.seq_idx + token0;
  bf16* const y = static_cast<bf16*>(args.y) + token0 * args.y_stride + head * P;
  char* const saved = static_cast<char*>(args.saved_states);

  const auto load = [&](int64_t tile) {
    const int64_t begin = tile * kTile;
    if (begin < length) {
      const uint32_t stage = shared_address + tile % L::kStages * L::kStageBytes;
      const int valid = static_cast<int>(min(int64_t(kTile), length - begin));
      load_tile<N>(stage + L::kC, c + begin * in.c_stride, in.c_stride, valid, thread, blockDim.x);
      load_tile<N>(stage + L::kB, b + begin * in.b_stride, in.b_stride, valid, thread, blockDim.x);
      for (int h = 0; h < heads; ++h)
        load_tile<P>(stage + L::kX + h * Channels::kBytes, x + begin * in.x_stride + h * P, in.x_stride, valid, thread,
                     blockDim.x);
      for (int i = thread; i < heads * kTile; i += blockDim.x) {
        const int t = i / heads, h = i % heads;
        copy4(stage + L::kDt + (h * kTile + t) * 4, dt + (begin + (t < valid ? t : 0)) * in.shape.heads + h, t < valid);
      }
      if (thread < 65) copy4(stage + L::kIds + thread * 4, ids + id_token(begin, thread, length), true);
    }
    copy_commit();
  };
  for (int tile = 0; tile < L::kStages - 1; ++tile) load(tile);

  char* const image = shared + L::kImage + group * Image::kBytes;
  char* const scaled = shared + L::kScaled + group * Channels::kBytes;
  const uint32_t image_address = shared_address + L::kImage + group * Image::kBytes;
  const uint32_t scaled_address = shared_address + L::kScaled + group * Channels::kBytes;
  float* const cb = reinterpret_cast<float*>(shared + L::kCb);
  float* const sums = reinterpret_cast<float*>(shared + L::kSums) + thread / 32 * kTile;
  float* const factor = reinterpret_cast<float*>(shared + L::kFactor) + thread / 32 * kTile;
  const float a_log2 = in.a[head] * kLog2E, skip = in.d[head];
  const int64_t state_at = (row * in.shape.heads + head) * int64_t(P * N);

  State<P, N> state;
  state.load(in.initial_state == nullptr ? nullptr : in.initial_state + state_at, mine);
  state.store_image(image, mine);
  warpgroup_barrier(group);
  if (saved != nullptr) save_image(saved + image_offset<P, N>(in.shape, row, 0, head), image, Image::kBytes, mine);

  const int64_t tiles = tiles_of(length);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    copy_wait<L::kStages - 2>();
    fence_async();
    __syncthreads();
    load(tile + L::kStages - 1);
    char* const stage = shared + tile % L::kStages * L::kStageBytes;
    const uint32_t stage_address = shared_address + tile % L::kStages * L::kStageBytes;
    char* const x_tile = stage + L::kX + group * Channels::kBytes;
    const uint32_t x_address = stage_address + L::kX + group * Channels::kBytes;

    // C S, and 16 columns of C Bᵀ at a time, the slices dealt out to the warpgroups.
    float out[P / 2], product[8];
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      Wgmma<16>::shared<0, 0>(product, Rows::along_rows(stage_address + L::kC, 0, 16 * k),
                              Rows::along_rows(stage_address + L::kB, 16 * group, 16 * k), k > 0);
    wgmma_commit();
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      Wgmma<P>::template shared<0, 1>(out, Rows::along_rows(stage_address + L::kC, 0, 16 * k),
                                      Image::down_columns(image_address, 16 * k, 0), k > 0);
    wgmma_commit();

    const float* const dt_tile = reinterpret_cast<const float*>(stage + L::kDt) + group * kTile;
    const Documents documents = Documents::of(reinterpret_cast<const int32_t*>(stage + L::kIds), lane);
    const Decay decay = Decay::of(dt_tile, a_log2, lane);
    const float2 after = decay.to_after(documents, lane);
    reinterpret_cast<float2*>(sums)[lane] = decay.sum;
    reinterpret_cast<float2*>(factor)[lane] = {after.x * decay.dt.x, after.y * decay.dt.y};
    __syncwarp();
    scale_rows<P>(scaled, x_tile, factor, mine);
    fence_async();

    wgmma_wait<1>();
    for (int slice = group;;) {
#pragma unroll
      for (int i = 0; i < 8; i += 2)
        *reinterpret_cast<float2*>(cb + (r + i % 4 * 4) * L::kCbStride + 16 * slice + i / 4 * 8 + 2 * q) = {
            product[i], product[i + 1]};
      slice += heads;
      if (slice >= kTile / 16) break;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < N / 16; ++k)
        Wgmma<16>::shared<0, 0>(product, Rows::along_rows(stage_address + L::kC, 0, 16 * k),
                                Rows::along_rows(stage_address + L::kB, 16 * slice, 16 * k), k > 0);
      wgmma_commit();
      wgmma_wait<0>();
    }
    __syncthreads();

    // The state moves on while the scores are made.
    wgmma_wait<0>();
    state.scale(decay.carry(documents));
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k)
#pragma unroll
      for (int m = 0; m < N / 64; ++m)
        Wgmma<P>::template shared<1, 1>(state.d[m], Rows::down_columns(stage_address + L::kB, 16 * k, 64 * m),
                                        Channels::down_columns(scaled_address, 16 * k, 0), 1);
    wgmma_commit();

    const float sum0 = sums[r], sum1 = sums[r + 8];
    const int first0 = documents.first(r), first1 = documents.first(r + 8);
    const float before0 = documents.from_before(r) ? exp2_fast(sum0) : 0.f;
    const float before1 = documents.from_before(r + 8) ? exp2_fast(sum1) : 0.f;
#pragma unroll
    for (int i = 0; i < P / 2; ++i) out[i] *= i % 4 < 2 ? before0 : before1;
    const auto score = [](float cb, float dt, float exponent, int s, int first, int t) {
      return cb * dt * exp2_fast(unsigned(s - first) <= unsigned(t - first) ? exponent : kMinusInfinity);
    };
    uint32_t scores[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        scores[k][2 * half] = scores[k][2 * half + 1] = 0;
        if (k > warp) continue;
        const int s = 16 * k + 8 * half + 2 * q;
        const float2 sum = *reinterpret_cast<const float2*>(sums + s);
        const float2 step = *reinterpret_cast<const float2*>(dt_tile + s);
        const float2 cb0 = *reinterpret_cast<const float2*>(cb + r * L::kCbStride + s);
        const float2 cb1 = *reinterpret_cast<const float2*>(cb + (r + 8) * L::kCbStride + s);
        scores[k][2 * half] = pack(score(cb0.x, step.x, sum0 - sum.x, s, first0, r),
                                   score(cb0.y, step.y, sum0 - sum.y, s + 1, first0, r));
        scores[k][2 * half + 1] = pack(score(cb1.x, step.x, sum1 - sum.x, s, first1, r + 8),
                                       score(cb1.y, step.y, sum1 - sum.y, s + 1, first1, r + 8));
      }
    }
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      Wgmma<P>::template registers<1>(out, scores[k], Channels::down_columns(x_address, 16 * k, 0), 1);
    wgmma_commit();
    wgmma_wait<0>();
    warpgroup_barrier(group);  // all four warps have read x and the image

    // y takes x's place in shared memory, to leave in whole 16-byte pieces; a warp's rows are its own.
#pragma unroll
    for (int i = 0; i < P / 2; i += 2) {
      uint32_t* const at = reinterpret_cast<uint32_t*>(x_tile + Channels::offset(r + i % 4 * 4, i / 4 * 8 + 2 * q));
      const uint32_t pair = *at;
      *at = pack(out[i] + skip * low(pair), out[i + 1] + skip * high(pair));
    }
    state.store_image(image, mine);
    warpgroup_barrier(group);
    const int64_t begin = tile * kTile;
#pragma unroll
    for (int i = lane; i < 16 * Channels::kPieces; i += 32) {
      const int t = warp * 16 + i / Channels::kPieces, col = i % Channels::kPieces * 8;
      if (begin + t < length)
        *reinterpret_cast<uint4*>(y + (begin + t) * args.y_stride + col) =
            *reinterpret_cast<const uint4*>(x_tile + Channels::offset(t, col));
    }
    if (saved != nullptr && tile + 1 < tiles)
      save_image(saved + image_offset<P, N>(in.shape, row, tile + 1, head), image, Image::kBytes, mine);
  }
  if (args.final_state != nullptr) state.store(args.final_state + state_at, mine);
}

}  // namespace dm::kernels::cuda
