#pragma once
// The main backward kernel: a thread block has one tile of 64 tokens of one row and one group and goes
// through the group's heads, so that dB and dC are summed over heads in accumulators. With S the state before
// the tile, dS' the gradient of the one after it, e_t and v_s the decays from before to t and from s to
// after, G = L ∘ (dY Xᵀ):
//   dX = Δ ∘ (v ∘ (B dS') + (L ∘ C Bᵀ)ᵀ dY) + D dY
//   dC = Σ_h (e ∘ dY) S  + (Σ_h G ∘ Δ) B
//   dB = Σ_h (Δ v ∘ X) dS' + (Σ_h G ∘ Δ)ᵀ C
// Two source warpgroups take the heads in turn (backward_sources.cuh), one state warpgroup takes them all
// (backward_states.cuh) and loads for the others. A source warp sums up the gradients of Δ, a and D two heads
// behind.

#include "kernels/ssd/cuda/backward_sources.cuh"
#include "kernels/ssd/cuda/backward_states.cuh"

namespace dm::kernels::cuda {

template <int kRegisters>
__device__ void registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Zeros where the images of a slice's states leave room, which no load writes to.
template <int P, int N>
__device__ void fill_images(char* memory, const StateSlice& slice, int thread) {
  using L = BackwardLayout<P, N>;
  if (slice.count == N) return;
  for (int stage = 0; stage < L::kStages; ++stage)
    for (const int image : {L::kState, L::kDstate})
      for (int i = image_bytes<P>(slice) + thread * 16; i < L::Image::kBytes; i += kBackwardThreads * 16)
        *reinterpret_cast<uint4*>(memory + stage * L::kStageBytes + image + i) = {0, 0, 0, 0};
  fence_async();
}

/// da_parts, dd_parts [B, tiles, H]: one sum a tile, added up by ssd_sum_kernel.
template <int P, int N>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    ssd_backward_kernel(const SsdBackward args, const StateSlice slice, const DecayTable table,
                        const char* const states, const char* const dstates, float* const da_parts,
                        float* const dd_parts, const __grid_constant__ BackwardMaps maps) {
  using L = BackwardLayout<P, N>;
  using Image = typename L::Image;
  extern __shared__ char memory[];
  const SsdShape& shape = args.in.shape;
  const int tiles = static_cast<int>(tiles_of(shape.length)),
            heads = static_cast<int>(shape.heads / shape.groups);
  const int thread = threadIdx.x, group = thread / kWarpgroup, bc_group = blockIdx.y;
  BackwardThread<P, N> my;
  my.shared = Shared::aligned(memory);
  my.mine = thread % kWarpgroup;
  my.warp = my.mine / 32;
  my.lane = thread % 32;
  my.q = my.lane % 4;
  my.r = my.warp * 16 + my.lane / 4;
  my.row = blockIdx.z;
  my.tile = blockIdx.x;
  my.first_head = blockIdx.y * heads;
  my.documents.begins = table.begins[int64_t{my.row} * tiles + my.tile];

  const auto load = [&](int h) {
    if (h >= heads) return;
    const uint32_t stage = my.stage_address(h);
    const int head = my.first_head + h, token = my.tile * kTile;
    const int64_t image = image_offset<P>(shape, slice, my.row, my.tile, head);
    const int bytes = image_bytes<P>(slice);
    const Mbarrier full = my.filled(h);
    full.arrive_expecting(L::kLoadBytes - 2 * (Image::kBytes - bytes));
    load_tile<P>(stage + L::kX, maps.x, head * P, token, my.row, full);
    load_tile<P>(stage + L::kDy, maps.dy, head * P, token, my.row, full);
    bulk_load(stage + L::kDstate, dstates + image, bytes, full);
    bulk_load(stage + L::kState, states + image, bytes, full);
    bulk_load(stage + L::kDecay, table.records + (int64_t{my.row} * tiles + my.tile) * shape.heads + head,
              int{sizeof(DecayRecord)}, full);
    if (!slice.first()) tma_prefetch(maps.dx, head * P, token, my.row);  // what TileBefore will read
  };
  fill_images<P, N>(my.shared.base, slice, thread);
  if (thread == 2 * kWarpgroup) {
    for (int h = 0; h < L::kStages; ++h) {
      my.filled(h).init(1);
      my.sourced(h).init(1);
    }
    for (int h = 0; h < L::kSumsHeld; ++h) my.stated(h).init(32);  // a thread of each quad
    my.begun().init(1);
    my.handed().init(kWarpgroup);
    Mbarrier::fence_init();
    my.begun().arrive_expecting(2 * L::Rows::kBytes);
    load_states<N>(my.shared.address + L::kC, maps.c, slice, bc_group, my.tile * kTile, my.row, my.begun());
    load_states<N>(my.shared.address + L::kB, maps.b, slice, bc_group, my.tile * kTile, my.row, my.begun());
    for (int h = 0; h < L::kStages - 2; ++h) load(h);
  }
  __syncthreads();
  my.begun().wait(0);

  const int64_t token = my.row * shape.length + my.tile * kTile;
  const int valid = static_cast<int>(min(int64_t{kTile}, shape.length - my.tile * kTile));
  if (group < 2) {
    registers_down<L::kSourceRegisters>();
    const int64_t part_at = (int64_t{my.row} * tiles + my.tile) * shape.heads;
    const DecayOutputs outputs{args.ddt + token * shape.heads, da_parts + part_at, dd_parts + part_at,
                               shape.heads, valid};
    const auto sum_up = [&](int h) {
      if (h < 0 || h / 2 % 4 != my.warp) return;
      const int head = my.first_head + h;
      my.stated(h).wait(my.sums_parity(h));
      DecayGradient::of(my.sums(h), args.in.a[head], my.lane).store(outputs, head, my.lane);
    };
    SourceRows<P, N> part;
    if (group == 0) part.make_bc(my);
    sources_barrier();
    part.begin();
    int h = group;
    for (; h < heads; h += 2) {
      const float skip = args.in.d[my.first_head + h];
      my.filled(h).wait(my.parity(h));
      part.head(
          my, group, h, skip, maps.dx, [&] { sum_up(h - 2); },
          [&](auto use) {
            if (slice.first()) return false;
            const int64_t begin = int64_t{my.tile} * kTile;  // `token` and `valid` would hold registers
            use(TileBefore{static_cast<const bf16*>(args.dx) +
                               (my.row * shape.length + begin) * args.dx_stride + (my.first_head + h) * P,
                           args.dx_stride, static_cast<int>(min(int64_t{kTile}, shape.length - begin))});
            return true;
          });
    }
    sum_up(h - 2);
    part.end(my, group);
  } else {
    registers_up<L::kStateRegisters>();
    StateParts<P, N> part;
    part.begin();
    for (int h = 0; h < heads; ++h) {
      // Afterwards all warps here have done head h - 1 and know that the sources have done h - 2: its stage
      // is free, and no barrier gets two phases ahead of who waits for it.
      if (h > 1) my.sourced(h - 2).wait(my.parity(h - 2));
      warpgroup_barrier(group);
      if (my.mine == 0) load(h + L::kStages - 2);
      my.filled(h).wait(my.parity(h));
      part.head(my, h);
    }
    my.handed().wait(0);
    part.end(my);
    const int64_t column = bc_group * shape.state + slice.begin;
    StateParts<P, N>::store(my, part.dc, args.dc, token * args.dc_stride + column, args.dc_stride, valid,
                            slice.count, args.bc_element);
    StateParts<P, N>::store(my, part.db, args.db, token * args.db_stride + column, args.db_stride, valid,
                            slice.count, args.bc_element);
  }
}

}  // namespace dm::kernels::cuda
