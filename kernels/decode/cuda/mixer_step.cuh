#pragma once
// The first half of a mixer's stage: convolution, step sizes and one step of the SSD scan. The states come
// through the ring and go back from registers. Every unit convolves its group's B and C by itself.

#include "kernels/decode/cuda/block_memory.cuh"
#include "kernels/decode/cuda/mail.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {

constexpr int kTaps = 4, kHalo = kTaps - 1;

/// What a unit reads that no earlier stage of this token has written: on its way before it is waited for.
class UnitInputs {
 public:
  static constexpr int kEach =
      (kMostConvolved + kDecodeThreads - 1) / kDecodeThreads;  // convolved by a thread

  __device__ UnitInputs(const MixerProduct& m, int index) : unit_(m, index) {
    const int head_dim = m.inner / m.heads, own_head = unit_.own_head % m.heads;
    branch_ = unit_.own_head / m.heads;
    const int group = own_head / (m.heads / m.groups), all_channels = m.branches * m.channels();
    const int x = own_head * head_dim + unit_.part * unit_.channels;
    const int b = m.inner + group * m.states, c = m.inner + (m.groups + group) * m.states;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const int i = static_cast<int>(threadIdx.x) + k * kDecodeThreads - unit_.channels;
      channel_[k] = i < 0 ? x + i + unit_.channels : i < m.states ? b + i : c + i - m.states;
      if (i >= 2 * m.states) {
        channel_[k] = -1;
        continue;
      }
      const int64_t channel = int64_t{branch_} * m.channels() + channel_[k];
      taps_[k] = reinterpret_cast<const float4*>(m.conv_weight)[channel];
      bias_[k] = m.conv_bias[channel];
      const bf16* const window =
          static_cast<const bf16*>(m.window) + int64_t{unit_.row} * kHalo * all_channels;
#pragma unroll
      for (int t = 0; t < kHalo; ++t) before_[k][t] = window[t * all_channels + channel];
    }
    dt_bias_ = m.dt_bias[unit_.own_head], a_ = m.a[unit_.own_head], d_ = m.d[unit_.own_head];
  }

  /// The unit's channels of x, then B and C, to `convolved`; its Δ is returned. By the whole block.
  __device__ float convolve(const MixerProduct& m, uint32_t launch, float* convolved) const {
    float now[kEach];
    const float raw = columns_now(m, launch, now) + dt_bias_;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      if (channel_[k] < 0) continue;
      const float u = bias_[k] + taps_[k].x * to_float(before_[k][0]) + taps_[k].y * to_float(before_[k][1]) +
                      taps_[k].z * to_float(before_[k][2]) + taps_[k].w * now[k];
      convolved[threadIdx.x + k * kDecodeThreads] = u * sigmoid<float>(u);
    }
    const float softplus = raw > 20.f ? raw : log1pf(expf(raw));
    return fminf(fmaxf(softplus, m.dt_min), m.dt_max);
  }

  /// This token's x, B and C of the thread's channels, and the head's dt.
  __device__ float columns_now(const MixerProduct& m, uint32_t launch, float (&now)[kEach]) const {
    const int64_t row = int64_t{unit_.row} * m.projected_stride;
    const int first = branch_ * m.columns() + m.inner, dt = first + m.channels() + unit_.own_head % m.heads;
    int column[kEach];
#pragma unroll
    for (int k = 0; k < kEach; ++k) column[k] = channel_[k] < 0 ? dt : first + channel_[k];
    if (m.projected_mail == nullptr) {
      const bf16* const columns = static_cast<const bf16*>(m.projected) + row;
#pragma unroll
      for (int k = 0; k < kEach; ++k) now[k] = to_float(columns[column[k]]);
      return to_float(columns[dt]);
    }
    const uint64_t* const words = m.projected_mail + row / 2;
    uint64_t got[kEach], got_dt;
    bool all;
    do {
      got_dt = look(words + dt / 2);
      all = is_of(got_dt, launch);
#pragma unroll
      for (int k = 0; k < kEach; ++k) got[k] = look(words + column[k] / 2);
#pragma unroll
      for (int k = 0; k < kEach; ++k) all = all && is_of(got[k], launch);
    } while (!all);
#pragma unroll
    for (int k = 0; k < kEach; ++k) now[k] = half_of(got[k], column[k]);
    return half_of(got_dt, dt);
  }

  __device__ const StateUnit& unit() const { return unit_; }
  __device__ float a() const { return a_; }
  __device__ float d() const { return d_; }

 private:
  StateUnit unit_;
  int branch_;
  int channel_[kEach];  // among the branch's; -1: none
  float4 taps_[kEach];
  float bias_[kEach];
  bf16 before_[kEach][kHalo];  // not looked at, so not waited for, before convolve()
  float dt_bias_, a_, d_;
};

/// A unit's step, after its channels have been convolved.
__device__ inline void step_state(const MixerProduct& m, const UnitInputs& in, float dt, DecodeBlock& block) {
  constexpr float kLog2E = 1.4426950408889634f;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int each = in.unit().channels / kDecodeWarps, quads = m.states / 4;
  const bool holds = lane < quads;
  const float4 zero{};
  float4 s[kMany];
  const float4* const from = reinterpret_cast<const float4*>(block.ring.take()) + warp * each * quads + lane;
#pragma unroll
  for (int p = 0; p < kMany; ++p) s[p] = holds && p < each ? from[p * quads] : zero;
  block.ring.give_back();
  const float* const convolved = block.memory.convolved;
  const float* const b_at = convolved + in.unit().channels + lane * 4;
  const float4 b = holds ? *reinterpret_cast<const float4*>(b_at) : zero;
  const float4 c = holds ? *reinterpret_cast<const float4*>(b_at + m.states) : zero;
  const float decay = exp2_fast(dt * in.a() * kLog2E);
  const int64_t first = in.unit().first_channel(m) + warp * each;
  float4* const to = reinterpret_cast<float4*>(m.state + first * m.states) + lane;
  float even = 0.f;  // y of the channel before
#pragma unroll
  for (int p = 0; p < kMany; ++p) {
    if (p >= each) break;
    const float x = convolved[warp * each + p], input = dt * x;
    s[p] = {decay * s[p].x + input * b.x, decay * s[p].y + input * b.y, decay * s[p].z + input * b.z,
            decay * s[p].w + input * b.w};
    if (holds) to[p * quads] = s[p];
    const float y = warp_sum(s[p].x * c.x + s[p].y * c.y + s[p].z * c.z + s[p].w * c.w) + in.d() * x;
    if (p % 2 == 1 && lane == 0) post(m.y_mail + (first + p) / 2, even, y, block.launch);
    even = y;
  }
}

__device__ inline void mixer_step(const MixerProduct stage, int first_unit, DecodeBlock& block) {
  const int units = StateUnit::count(stage), grid = static_cast<int>(gridDim.x);
  int index = own_part(first_unit);
  UnitInputs in(stage, min(index, units - 1));  // a block without a unit does not use them
  for (; index < units; index += grid) {
    const float dt = in.convolve(stage, block.launch, block.memory.convolved);
    UnitInputs next = in;
    if (index + grid < units) next = UnitInputs(stage, index + grid);
    decode_sync();
    step_state(stage, in, dt, block);
    decode_sync();  // the convolved channels are free
    in = next;
  }
}

}  // namespace dm::kernels::cuda
