#pragma once
// The main backward kernel's state warpgroup: the parts of dC and dB that go through the states, summed over
// heads, and what the decays get from there.

#include "kernels/ssd/cuda/backward_layout.cuh"

namespace dm::kernels::cuda {

template <int P, int N>
struct StateParts {
  using L = BackwardLayout<P, N>;
  using Rows = typename L::Rows;
  using Channels = typename L::Channels;
  float dc[N / 2], db[N / 2];

  __device__ void begin() {
#pragma unroll
    for (int i = 0; i < N / 2; ++i) dc[i] = db[i] = 0.f;
  }

  __device__ void head(const BackwardThread<P, N>& my, int h) {
    char* const stage = my.stage(h);
    const uint32_t address = my.stage_address(h);
    const int q = my.q, r = my.r;
    const DecayRecord& decay = my.decay(h);
    float reached[P / 2];  // C S
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < N / 16; ++k)
      Wgmma<P>::template shared<0, 1>(reached, Rows::along_rows(my.shared.address + L::kC, 0, 16 * k),
                                      L::Image::down_columns(address + L::kState, 16 * k, 0), k > 0);
    wgmma_commit();

    const float before[2] = {decay_before(decay, my.documents, r), decay_before(decay, my.documents, r + 8)};
    const float weight[2] = {decay_after(decay, my.documents, r) * decay.dt[r],
                             decay_after(decay, my.documents, r + 8) * decay.dt[r + 8]};
    const auto sum_reached = [&] {
      wgmma_pin(reached);
      float inner[2] = {0.f, 0.f};
#pragma unroll
      for (int i = 0; i < P / 2; i += 2) {
        const int half = i % 4 / 2;
        const uint32_t pair = *reinterpret_cast<const uint32_t*>(
            stage + L::kDy + Channels::offset(r + 8 * half, i / 4 * 8 + 2 * q));
        inner[half] += low(pair) * reached[i] + high(pair) * reached[i + 1];
      }
      TileSums& out = my.sums(h);
      if (my.mine == 0) {
        out.through = decay_through(decay, my.documents);
        out.documents = my.documents;
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float v = quad_sum(inner[half]) * before[half];
        if (q == 0) out.before[r + 8 * half] = v;
      }
      if (q == 0) my.stated(h).arrive();
    };
    // With 64 channels the registers do not hold all three products at once.
    constexpr bool kTogether = P == 32;
    if constexpr (!kTogether) {
      wgmma_wait<0>();
      sum_reached();
    }
    accumulate<kTogether>(dc, address + L::kDy, address + L::kState, my, before);
    accumulate<kTogether>(db, address + L::kX, address + L::kDstate, my, weight);
    if constexpr (kTogether) {
      wgmma_wait<2>();
      sum_reached();
    }
    wgmma_wait<0>();
    wgmma_pin(dc);
    wgmma_pin(db);
  }

  /// Adds the parts inside the tile, from the scores that the source warpgroups left.
  __device__ void end(const BackwardThread<P, N>& my) {
    using Square = typename L::Square;
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      Wgmma<N>::template shared<1, 1>(dc, Square::down_columns(my.shared.address + L::kOut, 16 * k, 0),
                                      Rows::down_columns(my.shared.address + L::kB, 16 * k, 0), 1);
      Wgmma<N>::template shared<0, 1>(db, Square::along_rows(my.shared.address + L::kOut, 0, 16 * k),
                                      Rows::down_columns(my.shared.address + L::kC, 16 * k, 0), 1);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(dc);
    wgmma_pin(db);
  }

  static __device__ void store(const BackwardThread<P, N>& my, const float (&v)[N / 2], void* target,
                               int64_t at, int64_t stride, int valid, int columns, Element element) {
#pragma unroll
    for (int i = 0; i < N / 2; i += 2) {
      const int t = my.r + i % 4 * 4;
      const int64_t to = at + t * stride + i / 4 * 8 + 2 * my.q;
      if (t >= valid || i / 4 * 8 >= columns) continue;
      if (element == Element::kFloat32)
        *reinterpret_cast<float2*>(static_cast<float*>(target) + to) = {v[i], v[i + 1]};
      else
        *reinterpret_cast<uint32_t*>(static_cast<bf16*>(target) + to) = pack(v[i], v[i + 1]);
    }
  }

 private:
  /// d += (factor ∘ tile) imageᵀ, on its way when this returns, or done.
  template <bool kOnItsWay>
  static __device__ void accumulate(float (&d)[N / 2], uint32_t tile, uint32_t image,
                                    const BackwardThread<P, N>& my, const float (&factor)[2]) {
    const int row = my.warp * 16 + my.lane % 16, col = my.lane / 16 * 8;
    uint32_t a[P / 16][4];
#pragma unroll
    for (int k = 0; k < P / 16; ++k) {
      load_matrix(a[k], tile + Channels::offset(row, 16 * k + col));
#pragma unroll
      for (int i = 0; i < 4; ++i) a[k][i] = scale(a[k][i], factor[i % 2]);
    }
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < P / 16; ++k)
      Wgmma<N>::template registers<0>(d, a[k], L::Image::along_rows(image, 0, 16 * k), 1);
    wgmma_commit();
    if constexpr (!kOnItsWay) {
      wgmma_wait<0>();
      wgmma_pin(d);
    }
  }
};

}  // namespace dm::kernels::cuda
