#pragma once
// The backward pass of one segment of one row by a few channels.
//
// With S' the state before token t (zero where a document begins), e = exp(Δ a), dS the gradient of the state
// after it:
//   dS += dy C       dC += dy (e S' + Δ x B)     dB += dS Δ x
//   dx  = Δ ⟨dS, B⟩ + D dy      dΔ = x ⟨dS, B⟩ + ⟨dS e S', a⟩      da += Δ dS e S'      dS ← e dS
// Tokens go in blocks of kSavedTokens from the last to the first. In a block the states are found again from
// the one saved before it, keeping every fourth in shared memory, and from there four tokens at a time, whose
// states and decays stay in registers for the way back.

#include "kernels/selective_scan/cuda/scan.cuh"

namespace dm::kernels::cuda {

constexpr int kBackwardThreads = 256;

/// Sums over channels and over tokens, each thread block's part.
struct Shares {
  float* states;    // [channel blocks, B, L, 2, N]: dB and dC
  float* channels;  // [B, segments, E N + 2 E]: da, dd and the gradient of dt's bias
};

template <class Of>
class Backward {
 public:
  static constexpr int kLanes = Of::kLanes, kStates = Of::kStates, kWidth = Of::kWidth;
  static constexpr int kChannels = kBackwardThreads / kLanes;  // of a thread block
  static constexpr int kBlock = kSavedTokens, kStep = 4;       // tokens
  static constexpr int kWarps = kBackwardThreads / 32;
  static constexpr int kFlush = kLanes == 4 ? kBlock : kStep;  // tokens whose dB and dC wait for each other

  struct alignas(16) Shared {
    float b[kBlock][kWidth], c[kBlock][kWidth];
    float parts[kFlush][kWarps][2 * kWidth];  // dB and dC of each warp's channels
    float4 before[kBlock / kStep][Of::kRuns][kBackwardThreads];
    float x[kBlock][kChannels], dt[kBlock][kChannels];  // dx and dΔ in their places once a token is done
    float dy[kBlock][kChannels];
    float bias[kChannels];
    bool begins[kBlock];
  };

  __device__ Backward(const SelectiveBackward& args, const Segments& segments, const Shares& shares,
                      Shared& shared)
      : args_(args),
        in_(args.in),
        shares_(shares),
        place_(args.in.shape, segments),
        segments_(segments.count),
        shared_(shared),
        first_channel_(int64_t{blockIdx.x} * kChannels),
        b_rows_(of_group(in_, in_.b, first_channel_)),
        c_rows_(of_group(in_, in_.c, first_channel_)),
        lane_(threadIdx.x % kLanes),
        channel_(threadIdx.x / kLanes),
        part_(args.in.shape, first_channel_ + channel_, lane_) {
    const float* const after = segments.count > 1 ? segments.states : args.dfinal_state;
    part_.load(state_block(after, in_.shape, place_.row * segments.count + place_.segment), dstate_);
    part_.load(in_.a, a_);
    if (threadIdx.x < kChannels) shared_.bias[threadIdx.x] = step_bias(in_, first_channel_ + threadIdx.x);
    d_ = first_channel_ + channel_ < in_.shape.channels ? in_.d[first_channel_ + channel_] : 0.f;
  }

  __device__ void run() {
    const int64_t blocks = (place_.end - place_.begin + kBlock - 1) / kBlock;
    for (int64_t block = blocks - 1; block >= 0; --block) {
      const int64_t t = place_.begin + block * kBlock;
      __syncthreads();
      fetch(t);
      __syncthreads();
      find_states(t);
      for (int first = kBlock - kStep; first >= 0; first -= kStep) {
        walk_back(first);
        if (first % kFlush == 0) flush(t + first);
      }
      store(t);  // the last flush has a barrier behind the last token
    }
    finish();
  }

 private:
  using OfTokens = Fours<kBlock, kChannels, kBackwardThreads>;
  using OfStates = Fours<kBlock, kWidth, kBackwardThreads>;

  /// All loads are under way before the first of them is looked at.
  __device__ void fetch(int64_t t) {
    const SelectiveShape& shape = in_.shape;
    const int64_t row = place_.row * shape.length + t, tokens = place_.end - t;
    FourBits x[OfTokens::kCount], dt[OfTokens::kCount], dy[OfTokens::kCount], b[OfStates::kCount],
        c[OfStates::kCount];
    const bool x_fours = in_fours(in_.x, shape.channels), dt_fours = in_fours(in_.dt, shape.channels),
               dy_fours = in_fours(args_.dy, shape.channels), b_fours = in_fours(b_rows_, shape.states),
               c_fours = in_fours(c_rows_, shape.states);
    OfTokens::each([&](int k, int token, int channel) {
      const int64_t width = token < tokens ? shape.channels : 0;
      x[k] = four_bits(in_.x, row + token, first_channel_ + channel, width, x_fours);
      dt[k] = four_bits(in_.dt, row + token, first_channel_ + channel, width, dt_fours);
      dy[k] = four_bits(args_.dy, row + token, first_channel_ + channel, width, dy_fours);
    });
    OfStates::each([&](int k, int token, int n) {
      const int64_t width = token < tokens ? shape.states : 0;
      b[k] = four_bits(b_rows_, row + token, n, width, b_fours);
      c[k] = four_bits(c_rows_, row + token, n, width, c_fours);
    });
    OfTokens::each([&](int k, int token, int channel) {
      *reinterpret_cast<float4*>(&shared_.x[token][channel]) = four_values(in_.x, x[k]);
      const float4 raw = four_values(in_.dt, dt[k]),
                   bias = *reinterpret_cast<float4*>(&shared_.bias[channel]);
      *reinterpret_cast<float4*>(&shared_.dt[token][channel]) = steps_of(in_, raw, bias, token < tokens);
      *reinterpret_cast<float4*>(&shared_.dy[token][channel]) = four_values(args_.dy, dy[k]);
    });
    OfStates::each([&](int k, int token, int n) {
      *reinterpret_cast<float4*>(&shared_.b[token][n]) = four_values(in_.b, b[k]);
      *reinterpret_cast<float4*>(&shared_.c[token][n]) = four_values(in_.c, c[k]);
    });
    if (threadIdx.x < kBlock) shared_.begins[threadIdx.x] = begins(in_, place_.row, t + threadIdx.x);
  }

  struct Step {
    float decay[kStates];   // 0 where a document begins
    float before[kStates];  // likewise
  };

  /// Over one token; what the way back needs of it.
  __device__ Step advance(int token, float (&state)[kStates]) const {
    const float dt = shared_.dt[token][channel_], input = dt * shared_.x[token][channel_];
    float b[kStates];
    take_states<Of>(shared_.b[token], lane_, b);
    const bool fresh = shared_.begins[token];
    Step step;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      step.decay[i] = fresh ? 0.f : exp2_fast(dt * (a_[i] * kLog2E));
      step.before[i] = fresh ? 0.f : state[i];
      state[i] = step.decay[i] * step.before[i] + input * b[i];
    }
    return step;
  }

  __device__ void find_states(int64_t t) {
    const int64_t blocks = (in_.shape.length + kBlock - 1) / kBlock;
    float state[kStates];
    part_.load(state_block(args_.saved, in_.shape, place_.row * blocks + t / kBlock), state);
#pragma unroll 1
    for (int first = 0; first < kBlock; first += kStep) {
#pragma unroll
      for (int i = 0; i < kStates; i += 4)
        shared_.before[first / kStep][i / 4][threadIdx.x] =
            make_float4(state[i], state[i + 1], state[i + 2], state[i + 3]);
      if (first + kStep == kBlock) break;
#pragma unroll
      for (int i = 0; i < kStep; ++i) advance(first + i, state);
    }
  }

  __device__ void walk_back(int first) {
    float state[kStates];
#pragma unroll
    for (int i = 0; i < kStates; i += 4) {
      const float4 four = shared_.before[first / kStep][i / 4][threadIdx.x];
      state[i] = four.x, state[i + 1] = four.y, state[i + 2] = four.z, state[i + 3] = four.w;
    }
    Step steps[kStep];
#pragma unroll
    for (int i = 0; i < kStep; ++i) steps[i] = advance(first + i, state);
    float of_input[kStep], of_decay[kStep];  // this thread's parts of ⟨dS, B⟩ and ⟨dS e S', a⟩
#pragma unroll
    for (int i = kStep - 1; i >= 0; --i) retreat(first + i, steps[i], of_input[i], of_decay[i]);
    const float through_input = channel_sums<kLanes>(of_input, lane_),
                through_decay = channel_sums<kLanes>(of_decay, lane_);
    __syncwarp();
    if (lane_ >= kStep) return;
    const int token = first + summed_value(lane_);
    float &x = shared_.x[token][channel_], &dt = shared_.dt[token][channel_];
    const float dy = shared_.dy[token][channel_];
    dd_ += x * dy;
    const float dx = dt * through_input + d_ * dy;
    dt = (x * through_input + through_decay) * step_slope(in_, dt);
    ddt_bias_ += dt;
    x = dx;
  }

  __device__ void retreat(int token, const Step& step, float& of_input, float& of_decay) {
    const float dt = shared_.dt[token][channel_], dy = shared_.dy[token][channel_];
    const float input = dt * shared_.x[token][channel_];
    const bool fresh = shared_.begins[token];
    float b[kStates], c[kStates], db[kStates], dc[kStates];
    take_states<Of>(shared_.b[token], lane_, b);
    take_states<Of>(shared_.c[token], lane_, c);
    of_input = of_decay = 0.f;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      float& ds = dstate_[i];
      const float kept = step.decay[i] * step.before[i];
      ds += dy * c[i];
      dc[i] = dy * (kept + input * b[i]);
      db[i] = ds * input;
      of_input += ds * b[i];
      const float of_kept = ds * kept;
      of_decay += of_kept * a_[i];
      da_[i] += of_kept * dt;
      ds = fresh ? 0.f : ds * step.decay[i];
    }
    leave(token % kFlush, db, dc);
  }

  /// dB and dC of one token, summed over the warp's channels.
  __device__ void leave(int slot, const float (&db)[kStates], const float (&dc)[kStates]) {
    float* const to = shared_.parts[slot][threadIdx.x / 32];
    if constexpr (kLanes == 32) {
      leave_states<Of>(to, lane_, db);
      leave_states<Of>(to + kWidth, lane_, dc);
    } else {
      // Eight values over eight channels: each exchange halves the values a thread still adds up.
      const bool high = threadIdx.x & 16, middle = threadIdx.x & 8, low = threadIdx.x & 4;
      float four[4], two[2];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        four[i] = (high ? dc[i] : db[i]) + __shfl_xor_sync(~0u, high ? db[i] : dc[i], 16);
#pragma unroll
      for (int i = 0; i < 2; ++i)
        two[i] = (middle ? four[2 + i] : four[i]) + __shfl_xor_sync(~0u, middle ? four[i] : four[2 + i], 8);
      const float one = (low ? two[1] : two[0]) + __shfl_xor_sync(~0u, low ? two[0] : two[1], 4);
      to[(high ? kWidth : 0) + lane_ * kStates + (middle ? 2 : 0) + (low ? 1 : 0)] = one;
    }
  }

  /// The warps' parts of kFlush tokens from t on, added up.
  __device__ void flush(int64_t t) {
    __syncthreads();
    const SelectiveShape& shape = in_.shape;
    const int64_t tokens = shape.rows * shape.length, row = place_.row * shape.length;
    float* const to = shares_.states + blockIdx.x * tokens * 2 * shape.states;
    for (int i = threadIdx.x; i < kFlush * 2 * kWidth; i += kBackwardThreads) {
      const int slot = i / (2 * kWidth), column = i % (2 * kWidth), n = column % kWidth;
      float sum = 0.f;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) sum += shared_.parts[slot][warp][column];
      if (t + slot < place_.end && n < shape.states)
        to[((row + t + slot) * 2 + column / kWidth) * shape.states + n] = sum;
    }
    if constexpr (kFlush < kBlock) __syncthreads();
  }

  __device__ void store(int64_t t) const {
    const SelectiveShape& shape = in_.shape;
    const int64_t row = place_.row * shape.length + t;
    OfTokens::each([&](int, int token, int column) {
      const int64_t channel = first_channel_ + column, at = (row + token) * shape.channels + channel;
      if (t + token >= place_.end || channel >= shape.channels) return;
      const auto four = [&](void* to, Element element, const float& from) {
        write_four(to, element, at, reinterpret_cast<const float4&>(from), shape.channels - channel,
                   shape.channels % 4 == 0);
      };
      four(args_.dx, in_.x.element, shared_.x[token][column]);
      four(args_.ddt, in_.dt.element, shared_.dt[token][column]);
    });
  }

  __device__ void finish() {
    const SelectiveShape& shape = in_.shape;
    const int64_t states = shape.channels * shape.states;
    float* const share =
        shares_.channels + (place_.row * segments_ + place_.segment) * (states + 2 * shape.channels);
    part_.store(share, da_);
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
      dd_ += __shfl_xor_sync(~0u, dd_, step);
      ddt_bias_ += __shfl_xor_sync(~0u, ddt_bias_, step);
    }
    if (lane_ == 0 && first_channel_ + channel_ < shape.channels) {
      share[states + first_channel_ + channel_] = dd_;
      share[states + shape.channels + first_channel_ + channel_] = ddt_bias_;
    }
    if (place_.segment == 0 && args_.dinitial_state != nullptr)
      part_.store(state_block(args_.dinitial_state, shape, place_.row), dstate_);
  }

  const SelectiveBackward& args_;
  const SelectiveInputs& in_;
  const Shares& shares_;
  const Place place_;
  const int64_t segments_;
  Shared& shared_;
  const int64_t first_channel_;
  const Rows b_rows_, c_rows_;
  const int lane_, channel_;  // in the channel, in the block
  const StatePart<Of> part_;
  float dstate_[kStates], a_[kStates], d_;
  float da_[kStates] = {}, dd_ = 0.f, ddt_bias_ = 0.f;
};

}  // namespace dm::kernels::cuda
