#pragma once
// The first half of a mixer's stage: convolution, step sizes and one step of the SSD scan. The states come
// through the ring and go back from registers. Every unit convolves its group's B and C by itself.

#include "kernels/decode/cuda/block_memory.cuh"
#include "kernels/decode/cuda/mail.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {

constexpr int kTaps = 4, kHalo = kTaps - 1;

/// Bits of a bfloat16 in a register of its own: two in one would be waited for as soon as they are loaded.
__device__ inline uint32_t bits_of(const void* memory, int64_t at) {
  return static_cast<const uint16_t*>(memory)[at];
}
__device__ inline float float_of(uint32_t bits) { return __uint_as_float(bits << 16); }

/// One channel of a row's convolution window: its last tokens move up by one, this one comes behind them.
struct WindowColumn {
  uint16_t* at;      // the oldest
  int64_t channels;  // to the next
  uint32_t before[kHalo];

  __device__ WindowColumn() : at(nullptr), channels(0), before{} {}
  /// The loads are on their way afterwards. `channel` among those of all branches.
  __device__ WindowColumn(const MixerProduct& m, int row, int channel) : channels(m.branches * m.channels()) {
    at = static_cast<uint16_t*>(m.window) + int64_t{row} * kHalo * channels + channel;
#pragma unroll
    for (int t = 0; t < kHalo; ++t) before[t] = at[t * channels];
  }
  __device__ void move(uint32_t now) const {
#pragma unroll
    for (int t = 0; t < kHalo; ++t)
      at[t * channels] = static_cast<uint16_t>(t + 1 < kHalo ? before[t + 1] : now);
  }
};

/// The projection's columns of this token: from memory, or as mail of this launch.
struct ProjectedRow {
  const void* memory;
  const uint64_t* mail;

  __device__ ProjectedRow(const MixerProduct& m, int row)
      : memory(static_cast<const uint16_t*>(m.projected) + int64_t{row} * m.projected_stride),
        mail(m.projected_mail == nullptr ? nullptr
                                         : m.projected_mail + int64_t{row} * m.projected_stride / 2) {}
  /// Bits of a column once they are there.
  __device__ uint32_t take_one(int column, uint32_t launch) const {
    uint64_t word;
    do word = look(mail + column / 2);
    while (!is_of(word, launch));
    return half_bits(word, column);
  }
};

/// What a unit reads that no earlier stage of this token has written: on its way before it is waited for. A
/// thread has one channel of x, B or C, the next one the head's Δ, a and D.
class UnitInputs {
 public:
  UnitInputs() = default;
  __device__ UnitInputs(const MixerProduct& m, int index) : unit_(m, index) {
    static_assert(kMostConvolved < kDecodeThreads);
    const int branch = quotient(unit_.own_head, m.heads), own_head = unit_.own_head - branch * m.heads,
              group = quotient(own_head, m.group_heads);
    const int i = static_cast<int>(threadIdx.x) - unit_.channels;
    role_ = i < 0 ? kOfX : i < 2 * m.states ? kOfBc : i == 2 * m.states ? kOfHead : kNone;
    if (role_ == kNone) return;
    int channel = own_head * m.head_dim + unit_.part * unit_.channels + static_cast<int>(threadIdx.x);
    if (i >= 0) channel = m.inner + group * m.states + (i < m.states ? i : i + (m.groups - 1) * m.states);
    if (role_ == kOfHead) channel = m.channels() + own_head;
    column_ = branch * m.columns() + m.inner + channel;
    if (role_ == kOfHead) {
      taps_ = {m.dt_bias[unit_.own_head], m.a[unit_.own_head], m.d[unit_.own_head], 0.f};
    } else {
      const int all = branch * m.channels() + channel;
      taps_ = reinterpret_cast<const float4*>(m.conv_weight)[all];
      bias_ = m.conv_bias[all];
      window_ = WindowColumn(m, unit_.row, all);
    }
    if (m.projected_mail == nullptr) now_ = bits_of(ProjectedRow(m, unit_.row).memory, column_);
  }

  /// To the block's memory: the unit's channels of x, then B and C, convolved; its Δ, decay and D. By the
  /// whole block. The window of x moves on: no other unit reads it.
  __device__ void convolve(const MixerProduct& m, DecodeBlock& block) {
    constexpr float kLog2E = 1.4426950408889634f;
    if (role_ == kNone) return;
    if (m.projected_mail != nullptr) now_ = ProjectedRow(m, unit_.row).take_one(column_, block.launch);
    if (role_ == kOfHead) {
      const float dt = fminf(fmaxf(softplus(float_of(now_) + taps_.x), m.dt_min), m.dt_max);
      block.memory.head = {dt, exp2_fast(dt * taps_.y * kLog2E), taps_.z, 0.f};
      return;
    }
    const float u = bias_ + taps_.x * float_of(window_.before[0]) + taps_.y * float_of(window_.before[1]) +
                    taps_.z * float_of(window_.before[2]) + taps_.w * float_of(now_);
    block.memory.convolved[threadIdx.x] = u * sigmoid<bf16>(u);
    if (role_ == kOfX) window_.move(now_);
  }

  __device__ const StateUnit& unit() const { return unit_; }

 private:
  enum Role : int { kOfX, kOfBc, kOfHead, kNone };
  StateUnit unit_;
  int role_ = kNone, column_ = 0;
  float4 taps_{};  // or Δ's bias, a and D of the head
  float bias_ = 0.f;
  WindowColumn window_;
  uint32_t now_ = 0;
};

/// A warp's two channels of a unit's state, four states a lane.
struct UnitState {
  static constexpr int kChannels = 2;
  float4 s[kChannels];
  bool holds;

  /// From the ring, by all warps.
  __device__ UnitState(const MixerProduct& m, const StateUnit& unit, MemoryRing& ring) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quads = m.states / 4;
    holds = lane < quads && warp * kChannels < unit.channels;
    const float4* const from = reinterpret_cast<const float4*>(ring.take()) + warp * kChannels * quads + lane;
#pragma unroll
    for (int p = 0; p < kChannels; ++p) s[p] = holds ? from[p * quads] : float4{};
    ring.give_back();
  }

  /// After the unit's channels have been convolved.
  __device__ void step(const MixerProduct& m, const StateUnit& unit, const DecodeBlock& block) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quads = m.states / 4;
    if (warp * kChannels >= unit.channels) return;
    const float* const convolved = block.memory.convolved;
    const float* const b_at = convolved + unit.channels + lane * 4;
    const float4 b = holds ? *reinterpret_cast<const float4*>(b_at) : float4{};
    const float4 c = holds ? *reinterpret_cast<const float4*>(b_at + m.states) : float4{};
    const float2 x = *reinterpret_cast<const float2*>(convolved + warp * kChannels);
    const float4 head = block.memory.head;
    const float dt = head.x, decay = head.y, d = head.z;
    const int64_t first = unit.first_channel(m) + warp * kChannels;
    float4* const to = reinterpret_cast<float4*>(m.state + first * m.states) + lane;
    float y[kChannels];
#pragma unroll
    for (int p = 0; p < kChannels; ++p) {
      const float input = dt * (p == 0 ? x.x : x.y);
      s[p] = {decay * s[p].x + input * b.x, decay * s[p].y + input * b.y, decay * s[p].z + input * b.z,
              decay * s[p].w + input * b.w};
      y[p] = s[p].x * c.x + s[p].y * c.y + s[p].z * c.z + s[p].w * c.w;
    }
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
#pragma unroll
      for (int p = 0; p < kChannels; ++p) y[p] += __shfl_xor_sync(~0u, y[p], step);
    if (lane == 0) post(m.y_mail + first / 2, y[0] + d * x.x, y[1] + d * x.y, block.launch);
#pragma unroll
    for (int p = 0; p < kChannels; ++p)
      if (holds) to[p * quads] = s[p];
  }
};

__device__ inline void mixer_step(const MixerProduct& m, int first_unit, DecodeBlock& block) {
  const int units = StateUnit::count(m), grid = static_cast<int>(gridDim.x);
  int index = own_part(first_unit);
  if (index >= units) return;
  UnitInputs in(m, index);
#pragma unroll 1
  for (;;) {
    UnitInputs next;
    index += grid;
    const bool more = index < units;
    if (more) next = UnitInputs(m, index);
    UnitState state(m, in.unit(), block.ring);
    in.convolve(m, block);
    decode_sync();
    state.step(m, in.unit(), block);
    if (!more) return;
    decode_sync();  // the convolved channels are free
    in = next;
  }
}

}  // namespace dm::kernels::cuda
