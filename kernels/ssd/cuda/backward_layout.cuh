#pragma once
// Shared memory and barriers of the main backward kernel, and the sums over a tile that its warpgroups leave
// there.

#include "kernels/ssd/cuda/head_tile.cuh"

namespace dm::kernels::cuda {

struct BackwardMaps {
  CUtensorMap x, b, c, dy, dx;
};

/// What a head's gradients of Δ, a and D are made of, left by the warpgroups for one warp to sum up.
struct TileSums {
  float row[4][kTile];  // per warp of sources: Σ_s W_ts over its rows, W = L ∘ C Bᵀ ∘ (dY Xᵀ) ∘ Δ
  float column[kTile];  // Σ_t W_ts / Δ_s
  float before[kTile];  // e_t <dY_t, S C_t>
  float after[kTile];   // decay to the tile's end * <x_s, dS' B_s>
  float diagonal[kTile];  // <dY_t, x_t>
  float dt[kTile];
  float state[4];  // per warp: its part of <dS', S>
  float through;   // decay of the state over the tile
  float padding;
  Documents documents;  // the tile's: read from here, it holds no registers
};

template <int P, int N>
struct BackwardLayout {
  static constexpr int kStages = P == 32 ? 4 : 3;
  static constexpr int kSumsHeld =
      P == 32 ? 8 : 4;  // more than heads between the first to write and the one summed up
  // Registers of a thread of each role, of 168 at the start. With P 32 nothing spills; with fewer for the
  // state warpgroup the compiler waits after every product of P 64.
  static constexpr int kSourceRegisters = 152;
  static constexpr int kStateRegisters = 200;
  using Rows = Tile<kTile, N>;
  using Channels = Tile<kTile, P>;
  using Image = Tile<N, P>;
  using Square = Tile<kTile, kTile>;
  // One stage of the pipeline: one head.
  static constexpr int kX = 0;
  static constexpr int kDy = kX + Channels::kBytes;
  static constexpr int kState = kDy + Channels::kBytes;
  static constexpr int kDstate = kState + Image::kBytes;
  static constexpr int kDecay = kDstate + Image::kBytes;
  static constexpr int kLoadBytes = kDecay + int{sizeof(DecayRecord)};
  static constexpr int kStageBytes = (kLoadBytes + 1023) / 1024 * 1024;
  // The rest.
  static constexpr int kC = kStages * kStageBytes;
  static constexpr int kB = kC + Rows::kBytes;
  static constexpr int kOut =
      kB + Rows::kBytes;  // dX on its way out, one a source warpgroup; at the end the scores
  static constexpr int kBc = kOut + 2 * Channels::kBytes;  // B Cᵀ in the order of accumulators, float32
  static constexpr int kSums = kBc + kTile * kTile * 4;
  static constexpr int kBarriers = kSums + kSumsHeld * int{sizeof(TileSums)};
  static constexpr int kBytes = kBarriers + 128 + 1024;
  static_assert(2 * Channels::kBytes >= Square::kBytes);
};

constexpr int kBackwardThreads = 3 * kWarpgroup;

/// Among the source warpgroups.
__device__ inline void sources_barrier() { asm volatile("bar.sync 4, %0;" ::"n"(2 * kWarpgroup) : "memory"); }

/// Where a thread of the kernel stands.
template <int P, int N>
struct BackwardThread {
  using L = BackwardLayout<P, N>;
  Shared shared;
  int mine, warp, lane, q, r;  // within the warpgroup: thread, warp, lane, lane % 4, first row
  int row, tile, first_head;
  Documents documents;

  __device__ char* stage(int h) const { return shared.base + unsigned(h) % L::kStages * L::kStageBytes; }
  __device__ uint32_t stage_address(int h) const {
    return shared.address + unsigned(h) % L::kStages * L::kStageBytes;
  }
  __device__ const DecayRecord& decay(int h) const {
    return *reinterpret_cast<const DecayRecord*>(stage(h) + L::kDecay);
  }
  __device__ TileSums& sums(int h) const {
    return reinterpret_cast<TileSums*>(shared.base + L::kSums)[unsigned(h) % L::kSumsHeld];
  }
  __device__ float4* bc() const { return reinterpret_cast<float4*>(shared.base + L::kBc) + mine; }

  /// Head h's stage is filled; its source rows are done, and the sums of the head two before are used; the
  /// state warpgroup's sums are there.
  __device__ Mbarrier filled(int h) const { return barrier(unsigned(h) % L::kStages); }
  __device__ Mbarrier sourced(int h) const { return barrier(L::kStages + unsigned(h) % L::kStages); }
  __device__ Mbarrier stated(int h) const { return barrier(2 * L::kStages + 1 + unsigned(h) % L::kSumsHeld); }
  /// The tiles of B and C are there; the sum over heads of the scores is.
  __device__ Mbarrier begun() const { return barrier(2 * L::kStages); }
  __device__ Mbarrier handed() const { return barrier(2 * L::kStages + 1 + L::kSumsHeld); }
  __device__ Mbarrier barrier(int index) const { return {shared.address + L::kBarriers + index * 8}; }
  static __device__ uint32_t parity(int h) { return unsigned(h) / L::kStages & 1; }  // of filled and sourced
  static __device__ uint32_t sums_parity(int h) { return unsigned(h) / L::kSumsHeld & 1; }  // of stated
};

/// Where the gradients that belong to a head and tile go: this tile's first token, and the part of a sum over
/// tiles.
struct DecayOutputs {
  float* ddt;  // [tokens, H]
  float* da_parts;
  float* dd_parts;
  int64_t heads;
  int valid;
};

/// Gradients of Δ, a and D of one head and tile, by one warp. With l_t = Δ_t a the log decay of token t,
///   dl_r = Σ_{t >= r > s} W_ts + Σ_{t >= r} before_t + Σ_{s < r} Δ_s after_s + through <dS', S>
/// The first sum is Σ_{t >= r} (row_t - column_t) over r's document: both from the same W, so that what
/// cancels does so to float32.
struct DecayGradient {
  float2 ddt;
  float da, dd;

  static __device__ DecayGradient of(const TileSums& sums, float a, int lane) {
    const Documents documents = sums.documents;
    const auto at = [lane](const float* values) { return reinterpret_cast<const float2*>(values)[lane]; };
    const float2 dt = at(sums.dt), column = at(sums.column), before = at(sums.before), after = at(sums.after);
    float2 later = {before.x - dt.x * column.x, before.y - dt.y * column.y};
    for (int warp = 0; warp < 4; ++warp) {
      const float2 row = at(sums.row[warp]);
      later = {later.x + row.x, later.y + row.y};
    }
    later = sum_until_end(later, documents, lane);
    const float2 up_to = sum_since_begin({dt.x * after.x, dt.y * after.y}, documents, lane);
    const float through = sums.through * (sums.state[0] + sums.state[1] + sums.state[2] + sums.state[3]);
    const float2 dl = {later.x + (up_to.x - dt.x * after.x) + through,
                       later.y + (up_to.y - dt.y * after.y) + through};
    const float2 diagonal = at(sums.diagonal);
    return {{column.x + after.x + a * dl.x, column.y + after.y + a * dl.y},
            warp_sum(dt.x * dl.x + dt.y * dl.y),
            warp_sum(diagonal.x + diagonal.y)};
  }

  __device__ void store(const DecayOutputs& out, int head, int lane) const {
    if (2 * lane < out.valid) out.ddt[2 * lane * out.heads + head] = ddt.x;
    if (2 * lane + 1 < out.valid) out.ddt[(2 * lane + 1) * out.heads + head] = ddt.y;
    if (lane != 0) return;
    out.da_parts[head] = da;
    out.dd_parts[head] = dd;
  }
};

}  // namespace dm::kernels::cuda
