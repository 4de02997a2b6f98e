#pragma once
// Weights and states on their way through a ring of slots in shared memory. One thread sends for them in the
// order in which the computing warps will take them; both sides walk over the same parts.

#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/decode/cuda/grid.cuh"
#include "kernels/ssd/cuda/tma.cuh"

namespace dm::kernels::cuda {

constexpr int kGroup = 8;                       // rows of a matrix that are taken together
constexpr int kPiece = 1024;                    // columns of such rows in a slot
constexpr int kPieceRow = kPiece * 2 + 64;      // bytes between its rows: neighbours fall into other banks
constexpr int kSlotBytes = kGroup * kPieceRow;  // a multiple of 128
constexpr int kMostSlots = 16, kFewestSlots = 4;
constexpr int kFewChannels = 16, kManyChannels = 32;  // in a unit of the mixer's state
constexpr int kMostStates = 128;
static_assert(kManyChannels * kMostStates * 4 <= kSlotBytes && kSlotBytes % 128 == 0);

/// The first of the parts that fall to this block when they are dealt out from block `first` on; the others
/// follow at distances of the grid.
__device__ inline int own_part(int first) {
  const int part = static_cast<int>(blockIdx.x) - first;
  return part < 0 ? part + static_cast<int>(gridDim.x) : part;
}
__host__ __device__ inline int product_groups(const DecodeMatrix& m) {
  return (m.outputs + kGroup - 1) / kGroup;
}

/// A unit of the mixer's state: some channels of a head of a row.
struct StateUnit {
  int head;           // of all rows and branches
  int row, own_head;  // own_head: among all heads of the row
  int part, channels;

  __host__ __device__ static int channels_of(const MixerProduct& m) {
    return m.rows >= 4 && m.head_dim % kManyChannels == 0 ? kManyChannels : kFewChannels;
  }
  __host__ __device__ static int parts(const MixerProduct& m) {  // of a head
    return channels_of(m) == kManyChannels ? m.head_dim / kManyChannels : m.head_dim / kFewChannels;
  }
  __host__ __device__ static int count(const MixerProduct& m) {
    return m.rows * m.branches * m.heads * parts(m);
  }
  StateUnit() = default;
  __device__ StateUnit(const MixerProduct& m, int index) : channels(channels_of(m)) {
    const int head_parts = parts(m), heads = m.branches * m.heads;
    head = quotient(index, head_parts), part = index - head * head_parts;
    row = quotient(head, heads), own_head = head - row * heads;
  }
  /// The first of its channels, among those of all heads of all rows.
  __device__ int64_t first_channel(const MixerProduct& m) const {
    return int64_t{head * parts(m) + part} * channels;
  }
};

struct RingMemory {
  alignas(8) uint64_t full[kMostSlots], empty[kMostSlots];
};

/// One side's place in the ring.
class MemoryRing {
 public:
  __device__ MemoryRing(RingMemory& memory, char* slots, int count)
      : slots_(slots),
        slots_at_(static_cast<uint32_t>(__cvta_generic_to_shared(slots))),
        full_(static_cast<uint32_t>(__cvta_generic_to_shared(memory.full))),
        empty_(static_cast<uint32_t>(__cvta_generic_to_shared(memory.empty))),
        count_(count) {}
  /// By one thread, a barrier of the block behind it.
  __device__ void init() const {
    for (int i = 0; i < count_; ++i) full(i).init(1), empty(i).init(kDecodeWarps);
    Mbarrier::fence_init();
  }

  // The sending thread's.
  __device__ void send_matrix(const DecodeMatrix& m, int first) {
    const int groups = product_groups(m), grid = static_cast<int>(gridDim.x);
    for (int group = own_part(first); group < groups; group += grid)
      for (int column = 0; column < m.inputs; column += kPiece) {
        const int row = group * kGroup, rows = min(kGroup, m.outputs - row);
        const int bytes = min(kPiece, m.inputs - column) * 2;
        const uint32_t to = take_empty(rows * bytes);
        const char* from = static_cast<const char*>(m.data) + (int64_t{row} * m.stride + column) * 2;
        for (int r = 0; r < rows; ++r)
          bulk_load(to + static_cast<uint32_t>(r * kPieceRow), from + int64_t{r} * m.stride * 2, bytes,
                    full(slot_));
        advance();
      }
  }
  __device__ void send_state(const MixerProduct& m, int first) {
    const int units = StateUnit::count(m);
    for (int i = own_part(first); i < units; i += static_cast<int>(gridDim.x)) {
      const StateUnit unit(m, i);
      const int bytes = unit.channels * m.states * 4;
      const uint32_t to = take_empty(bytes);
      bulk_load(to, m.state + unit.first_channel(m) * m.states, bytes, full(slot_));
      advance();
    }
  }

  // The computing warps'.
  /// The next slot, once it is full.
  __device__ const char* take() const {
    full(slot_).wait(phase_);
    return slots_ + slot_ * kSlotBytes;
  }
  /// The warp has read it.
  __device__ void give_back() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) empty(slot_).arrive();
    advance();
  }

 private:
  __device__ Mbarrier full(int slot) const { return {full_ + static_cast<uint32_t>(slot) * 8}; }
  __device__ Mbarrier empty(int slot) const { return {empty_ + static_cast<uint32_t>(slot) * 8}; }
  __device__ uint32_t take_empty(int bytes) const {
    empty(slot_).wait(phase_ ^ 1);  // at once in the first round
    full(slot_).arrive_expecting(bytes);
    return slots_at_ + static_cast<uint32_t>(slot_ * kSlotBytes);
  }
  __device__ void advance() {
    if (++slot_ < count_) return;
    slot_ = 0, phase_ ^= 1;
  }

  const char* slots_;
  uint32_t slots_at_, full_, empty_;
  int count_, slot_ = 0;
  uint32_t phase_ = 0;
};

}  // namespace dm::kernels::cuda
