#pragma once
// What the kernels of the selective scan have in common: which thread has what, and the segments.

#include <cuda_runtime.h>

#include "kernels/device/rows.cuh"
#include "kernels/selective_scan/cuda/selective_scan_cuda.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {

constexpr int kSavedTokens = 32;  // from one saved state to the next
constexpr float kLog2E = 1.4426950408889634f;

/// A channel is kLanes neighbouring threads, of which each has runs of four states, kLanes runs apart. States
/// beyond N are zero throughout.
template <int kLanesOfAChannel, int kRunsOfAThread>
struct Lanes {
  static constexpr int kLanes = kLanesOfAChannel, kRuns = kRunsOfAThread;
  static constexpr int kStates = 4 * kRuns;        // of a thread
  static constexpr int kWidth = kLanes * kStates;  // N rounded up
  /// Which state of the channel the thread's state i is, counted from 4 lane.
  static constexpr __device__ int state(int i) { return i / 4 * 4 * kLanes + i % 4; }
};
using Narrow = Lanes<4, 1>;
using Wide = Lanes<32, 1>;
using Widest = Lanes<32, 2>;

/// Those of a thread, in shared memory or out of it.
template <class Of>
__device__ void take_states(const float* row, int lane, float (&values)[Of::kStates]) {
#pragma unroll
  for (int i = 0; i < Of::kStates; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(row + 4 * lane + Of::state(i));
    values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
  }
}
template <class Of>
__device__ void leave_states(float* row, int lane, const float (&values)[Of::kStates]) {
#pragma unroll
  for (int i = 0; i < Of::kStates; i += 4)
    *reinterpret_cast<float4*>(row + 4 * lane + Of::state(i)) =
        make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
}

/// visit(k, token, column) for this thread's k-th four neighbours of a tile [kTokens, kColumns].
template <int kTokens, int kColumns, int kThreads>
struct Fours {
  static constexpr int kAll = kTokens * kColumns / 4;
  static constexpr int kCount = (kAll + kThreads - 1) / kThreads;  // of a thread
  template <class Visit>
  static __device__ void each(const Visit& visit) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const int i = k * kThreads + threadIdx.x;
      if (kAll % kThreads == 0 || i < kAll) visit(k, i / (kColumns / 4), i % (kColumns / 4) * 4);
    }
  }
};

/// Segments of the sequence that run at the same time, `tokens` each but the last.
struct Segments {
  int64_t count, tokens;
  float* states;  // [B, count, E, N]: the state, or its gradient, that each starts from; null if count is 1
  float* spans;   // [B, count, E]: Σ Δ of each, infinite where a document begins in it; likewise
};

/// A channel of a tile stands so that threads which write four neighbouring ones each, a channel at a time,
/// and those of a warp, which read eight, all find them in different banks.
__device__ inline int slot_of(int channel) { return channel ^ (channel >> 3 & 3); }

/// Place of a thread block: channels, row and segment.
struct Place {
  int64_t row, segment, begin, end;  // tokens
  __device__ Place(const SelectiveShape& shape, const Segments& segments)
      : row(blockIdx.y),
        segment(blockIdx.z),
        begin(segment * segments.tokens),
        end(min(begin + segments.tokens, shape.length)) {}
};

/// Whether the state before token t of the row counts as zero.
__device__ inline bool begins(const SelectiveInputs& in, int64_t row, int64_t t) {
  const int32_t* const ids = in.seq_idx + row * in.shape.length;
  if (t == 0) return in.before != nullptr && in.before[row * in.before_stride] != ids[0];
  return t < in.shape.length && ids[t] != ids[t - 1];
}

/// b or c of the group that `channel` is of.
__device__ inline Rows of_group(const SelectiveInputs& in, Rows rows, int64_t channel) {
  const int64_t group = channel / (in.shape.channels / in.shape.groups);
  const int64_t bytes = rows.element == Element::kFloat32 ? 4 : 2;
  rows.data = static_cast<const char*>(rows.data) + group * in.group_stride * bytes;
  return rows;
}

/// Δ of what dt holds, with the channel's bias.
__device__ inline float step_of(const SelectiveInputs& in, float dt, float bias) {
  if (in.dt_bias == nullptr) return dt;
  return fminf(fmaxf(softplus(dt + bias), in.dt_min), in.dt_max);
}
/// Of four channels; 0 for a token that is not there.
__device__ inline float4 steps_of(const SelectiveInputs& in, const float4& dt, const float4& bias,
                                  bool there) {
  if (!there) return {};
  return {step_of(in, dt.x, bias.x), step_of(in, dt.y, bias.y), step_of(in, dt.z, bias.z),
          step_of(in, dt.w, bias.w)};
}
/// dΔ/ddt there: the slope of softplus is 1 - e^-softplus.
__device__ inline float step_slope(const SelectiveInputs& in, float step) {
  if (in.dt_bias == nullptr) return 1.f;
  return step > in.dt_min && step < in.dt_max ? -expm1f(-step) : 0.f;
}
/// The bias of a channel; 0 without, and behind the last.
__device__ inline float step_bias(const SelectiveInputs& in, int64_t channel) {
  return in.dt_bias != nullptr && channel < in.shape.channels ? in.dt_bias[channel] : 0.f;
}

/// This thread's part of [.., E, N] memory.
template <class Of>
struct StatePart {
  int64_t at;  // of its first state in one [E, N] block
  int left;    // states of its channel from there on
  __device__ StatePart(const SelectiveShape& shape, int64_t channel, int lane)
      : at(channel * shape.states + 4 * lane),
        left(channel < shape.channels ? static_cast<int>(shape.states) - 4 * lane : 0) {}
  __device__ void load(const float* block, float (&values)[Of::kStates]) const {
#pragma unroll
    for (int i = 0; i < Of::kStates; ++i)
      values[i] = block != nullptr && Of::state(i) < left ? block[at + Of::state(i)] : 0.f;
  }
  __device__ void store(float* block, const float (&values)[Of::kStates]) const {
#pragma unroll
    for (int i = 0; i < Of::kStates; ++i)
      if (Of::state(i) < left) block[at + Of::state(i)] = values[i];
  }
};

/// Block `index` of [.., E, N] memory; null stays null.
template <class Pointer>
__device__ Pointer state_block(Pointer memory, const SelectiveShape& shape, int64_t index) {
  return memory == nullptr ? memory : memory + index * shape.channels * shape.states;
}

/// Sums of four values over the kLanes threads of a channel, by three shuffles and not eight where there are
/// four: thread i gets the sum of value summed_value(i), i < 4; the others repeat them.
__device__ inline int summed_value(int lane) { return 2 * (lane & 1) + (lane >> 1 & 1); }
template <int kLanes>
__device__ float channel_sums(const float (&v)[4], int lane) {
  const bool odd = lane & 1, upper = lane & 2;
  const float a = (odd ? v[2] : v[0]) + __shfl_xor_sync(~0u, odd ? v[0] : v[2], 1);
  const float b = (odd ? v[3] : v[1]) + __shfl_xor_sync(~0u, odd ? v[1] : v[3], 1);
  float sum = (upper ? b : a) + __shfl_xor_sync(~0u, upper ? a : b, 2);
#pragma unroll
  for (int step = 4; step < kLanes; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
  return sum;
}

/// Segment starts, and what each does to its state, in `segments` (count > 1).
cudaError_t find_segment_states(const SelectiveInputs& in, const Segments& segments, cudaStream_t stream);
/// The same from the end: gradients of the states after each segment.
cudaError_t find_segment_gradients(const SelectiveBackward& args, const Segments& segments,
                                   cudaStream_t stream);

}  // namespace dm::kernels::cuda
