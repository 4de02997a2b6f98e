#pragma once
// The main backward kernel's source warpgroups: rows are the tokens s that a tile's x and B come from. Two of
// them take the heads in turn. Each makes G = L ∘ (dY Xᵀ), sums G ∘ Δ over its heads, and makes dX.

#include "kernels/ssd/cuda/backward_layout.cuh"

namespace dm::kernels::cuda {

template <int P, int N>
struct SourceRows {
  using L = BackwardLayout<P, N>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  float scores[32];  // Σ_h G ∘ Δ: rows s, columns t

  /// B Cᵀ, rows s, columns t, for both of them; by one.
  static __device__ void make_bc(const BackwardThread<P, N>& my) {
    float bc[32];
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      Wgmma<64>::shared<0, 0>(bc, Rows::along_rows(my.shared.address + L::kB, 0, 16 * k),
                              Rows::along_rows(my.shared.address + L::kC, 0, 16 * k), k > 0);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(bc);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      my.bc()[j * kWarpgroup] = {bc[4 * j], bc[4 * j + 1], bc[4 * j + 2], bc[4 * j + 3]};
  }

  __device__ void begin() {
#pragma unroll
    for (float& v : scores) v = 0.f;
  }

  /// `source` 0 or 1: which of the two warpgroups. `meanwhile` runs where the tensor cores are waited for;
  /// before(use) calls use(TileBefore) where dX takes `skip` times what is there, and else returns false.
  template <typename Meanwhile, typename Before>
  __device__ void head(const BackwardThread<P, N>& my, int source, int h, float skip, const CUtensorMap& dx,
                       Meanwhile meanwhile, Before before) {
    char* const stage = my.stage(h);
    const uint32_t address = my.stage_address(h);
    const int q = my.q, r = my.r, warp = my.warp, lane = my.lane;
    const DecayRecord& decay = my.decay(h);
    float g[32], dxs[P / 2];
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < P / 16; ++k)
      Wgmma<64>::shared<0, 0>(g, Channels::along_rows(address + L::kX, 0, 16 * k),
                              Channels::along_rows(address + L::kDy, 0, 16 * k), k > 0);
    wgmma_commit();
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      Wgmma<P>::template shared<0, 1>(dxs, Rows::along_rows(my.shared.address + L::kB, 0, 16 * k),
                                      L::Image::down_columns(address + L::kDstate, 16 * k, 0), k > 0);
    wgmma_commit();

    TileSums& out = my.sums(h);
    const float product = warp_sum(image_product(stage + L::kState, stage + L::kDstate, my.mine));
    if (lane == 0) out.state[warp] = product;
    if (warp == 0) reinterpret_cast<float2*>(out.dt)[lane] = reinterpret_cast<const float2*>(decay.dt)[lane];
    const float sum[2] = {decay.sum[r], decay.sum[r + 8]}, step[2] = {decay.dt[r], decay.dt[r + 8]};
    const int last[2] = {my.documents.last(r), my.documents.last(r + 8)};
    float column[2] = {0.f, 0.f}, rows[16];
    uint32_t factors[4][4];  // (L ∘ C Bᵀ)ᵀ as operand A
    wgmma_wait<1>();
    wgmma_pin(g);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      rows[2 * j] = rows[2 * j + 1] = 0.f;
      factors[j / 2][j % 2 * 2] = factors[j / 2][j % 2 * 2 + 1] = 0;
      if (j / 2 < warp) continue;
      const float2 to = *reinterpret_cast<const float2*>(decay.sum + 8 * j + 2 * q);
      const float4 bc = my.bc()[j * kWarpgroup];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int s = r + 8 * half;
        const float product[2] = {half == 0 ? bc.x : bc.z, half == 0 ? bc.y : bc.w};
        float pair[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int t = 8 * j + 2 * q + i, at = 4 * j + 2 * half + i;
          if (t == s) out.diagonal[t] = g[at];
          const bool inside = unsigned(t - s) <= unsigned(last[half] - s);
          const float l = exp2_fast(inside ? (i == 0 ? to.x : to.y) - sum[half] : kMinusInfinity);
          const float gl = g[at] * l, w = product[i] * gl;
          pair[i] = product[i] * l;
          column[half] += w;
          rows[2 * j + i] += w * step[half];
          scores[at] += gl * step[half];
        }
        factors[j / 2][j % 2 * 2 + half] = pack(pair[0], pair[1]);
      }
    }
    sum_rows(rows, lane);
    reinterpret_cast<float2*>(out.row[warp])[lane] = {rows[0], rows[1]};

    wgmma_wait<0>();
    wgmma_pin(dxs);
    const float after[2] = {decay_after(decay, my.documents, r), decay_after(decay, my.documents, r + 8)};
    float inner[2] = {0.f, 0.f};  // decay to the tile's end * <x_s, dS' B_s>
#pragma unroll
    for (int i = 0; i < P / 2; i += 2) {
      const int half = i % 4 / 2;
      const uint32_t x = *reinterpret_cast<const uint32_t*>(
          stage + L::kX + Channels::offset(r + 8 * half, i / 4 * 8 + 2 * q));
      dxs[i] *= after[half];
      dxs[i + 1] *= after[half];
      inner[half] += low(x) * dxs[i] + high(x) * dxs[i + 1];
    }
    wgmma_pin(dxs);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      Wgmma<P>::template registers<1>(dxs, factors[k], Channels::down_columns(address + L::kDy, 16 * k, 0),
                                      1);
    wgmma_commit();

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float c = quad_sum(column[half]), v = quad_sum(inner[half]);
      if (q == 0) {
        out.column[r + 8 * half] = c;
        out.after[r + 8 * half] = v;
      }
    }
    meanwhile();
    const int staged_at = L::kOut + source * Channels::kBytes;
    char* const staged = my.shared.base + staged_at;
    if (my.mine == 0) bulk_wait_read<0>();  // the head before has left
    warpgroup_barrier(source);
    wgmma_wait<0>();
    wgmma_pin(dxs);
    const auto leave = [&](auto pair_of) {
#pragma unroll
      for (int i = 0; i < P / 2; i += 2) {
        const int half = i % 4 / 2, s = r + 8 * half, column = i / 4 * 8 + 2 * q;
        const int at = Channels::offset(s, column);
        const uint32_t pair = pair_of(at, s, column);
        *reinterpret_cast<uint32_t*>(staged + at) =
            pack(step[half] * dxs[i] + skip * low(pair), step[half] * dxs[i + 1] + skip * high(pair));
      }
    };
    if (!before([&](const TileBefore& tile) {
          leave([&](int, int s, int column) { return tile.pair(s, column); });
        }))
      leave([&](int at, int, int) { return *reinterpret_cast<const uint32_t*>(stage + L::kDy + at); });
    fence_async();
    warpgroup_barrier(source);
    if (my.mine == 0) {
      my.sourced(h).arrive();
      tma_store(dx, (my.first_head + h) * P, my.tile * kTile, my.row, my.shared.address + staged_at);
      bulk_commit();
    }
  }

  /// Hands the sum over all heads to the state warpgroup, which waits for `handed`.
  __device__ void end(const BackwardThread<P, N>& my, int source) {
    if (my.mine == 0) bulk_wait_all();
    sources_barrier();  // nobody reads B Cᵀ any more
    if (source == 1)
#pragma unroll
      for (int j = 0; j < 8; ++j)
        my.bc()[j * kWarpgroup] = {scores[4 * j], scores[4 * j + 1], scores[4 * j + 2], scores[4 * j + 3]};
    sources_barrier();
    if (source == 0) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float4 other = my.bc()[j * kWarpgroup];
        char* const to = my.shared.base + L::kOut;
        *reinterpret_cast<uint32_t*>(to + L::Square::offset(my.r, 8 * j + 2 * my.q)) =
            pack(scores[4 * j] + other.x, scores[4 * j + 1] + other.y);
        *reinterpret_cast<uint32_t*>(to + L::Square::offset(my.r + 8, 8 * j + 2 * my.q)) =
            pack(scores[4 * j + 2] + other.z, scores[4 * j + 3] + other.w);
      }
      fence_async();
      my.handed().arrive();
    }
  }

 private:
  /// This thread's part of the sum over the products of two images' elements.
  static __device__ float image_product(const char* one, const char* other, int thread) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < L::Image::kBytes; i += kWarpgroup * 16) {
      const uint4 a = *reinterpret_cast<const uint4*>(one + i + thread * 16);
      const uint4 b = *reinterpret_cast<const uint4*>(other + i + thread * 16);
      sum += low(a.x) * low(b.x) + high(a.x) * high(b.x) + low(a.y) * low(b.y) + high(a.y) * high(b.y) +
             low(a.z) * low(b.z) + high(a.z) * high(b.z) + low(a.w) * low(b.w) + high(a.w) * high(b.w);
    }
    return sum;
  }

  /// Adds up over the warp's rows; afterwards values 0 and 1 are those of columns 2 lane and 2 lane + 1.
  static __device__ void sum_rows(float (&v)[16], int lane) {
    halve<8>(v, lane, 16);
    halve<4>(v, lane, 8);
    halve<2>(v, lane, 4);
  }

  /// Lanes `step` apart add up 2 kCount values and keep one half of them each.
  template <int kCount>
  static __device__ void halve(float (&v)[16], int lane, int step) {
    const bool upper = lane & step;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float away = upper ? v[i] : v[i + kCount], keep = upper ? v[i + kCount] : v[i];
      v[i] = keep + __shfl_xor_sync(~0u, away, step);
    }
  }
};

}  // namespace dm::kernels::cuda
