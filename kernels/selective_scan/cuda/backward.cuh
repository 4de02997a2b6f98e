#pragma once
// The backward pass of one segment of one row by a few channels.
//
// With S' the state before token t (zero where a document begins), e = exp(Δ a), dS the gradient of the state
// after it:
//   dS += dy C       dC += dy (e S' + Δ x B)     dB += dS Δ x
//   dx  = Δ ⟨dS, B⟩ + D dy      dΔ = x ⟨dS, B⟩ + ⟨dS e S', a⟩      da += Δ dS e S'      dS ← e dS
// Tokens go in blocks of kSavedTokens from the last to the first. In a block the states are found again from
// the one saved before it, keeping every fourth in shared memory, and from there four tokens at a time, whose
// states and decays stay in registers for the way back. The work is bound by instructions and by the pipe
// that shared memory and shuffles go through: a channel's values of a token are read as one, and only four
// tokens in which a document begins ask which of them it is.

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

  /// A channel's of a token.
  struct alignas(16) Token {
    float dt, input;  // Δ and Δ x; once the token is done, dΔ and dx
    float dy, x;
  };
  struct alignas(16) Shared {
    float b[kBlock][kWidth], c[kBlock][kWidth];
    float parts[kFlush][kWarps][2 * kWidth];  // dB and dC of each warp's channels
    float4 before[kBlock / kStep][Of::kRuns][kBackwardThreads];
    Token tokens[kBlock][kChannels];  // at slot_of()
    float bias[kChannels];
    uint32_t begins;  // bit i: the state before token i counts as zero
  };
  static_assert(kBlock == 32);

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
        slot_(slot_of(channel_)),
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
        if (any_fresh(first))
          walk_back<true>(first);
        else
          walk_back<false>(first);
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
      const float4 bias = *reinterpret_cast<float4*>(&shared_.bias[channel]),
                   step = steps_of(in_, four_values(in_.dt, dt[k]), bias, token < tokens),
                   x4 = four_values(in_.x, x[k]), dy4 = four_values(args_.dy, dy[k]);
      Token* const to = shared_.tokens[token];
      to[slot_of(channel)] = {step.x, step.x * x4.x, dy4.x, x4.x};
      to[slot_of(channel + 1)] = {step.y, step.y * x4.y, dy4.y, x4.y};
      to[slot_of(channel + 2)] = {step.z, step.z * x4.z, dy4.z, x4.z};
      to[slot_of(channel + 3)] = {step.w, step.w * x4.w, dy4.w, x4.w};
    });
    OfStates::each([&](int k, int token, int n) {
      *reinterpret_cast<float4*>(&shared_.b[token][n]) = four_values(in_.b, b[k]);
      *reinterpret_cast<float4*>(&shared_.c[token][n]) = four_values(in_.c, c[k]);
    });
    if (threadIdx.x < kBlock) {
      const uint32_t fresh = __ballot_sync(~0u, begins(in_, place_.row, t + threadIdx.x));
      if (threadIdx.x == 0) shared_.begins = fresh;
    }
  }

  /// Bit i: whether the state before token first + i of the block counts as zero.
  __device__ uint32_t fresh_of(int first) const { return shared_.begins >> first & ((1u << kStep) - 1); }

  /// Whether any does. By a vote, from which the compiler sees that all threads go the same way.
  __device__ bool any_fresh(int first) const { return __any_sync(~0u, fresh_of(first) != 0); }

  /// What the way back needs of a token.
  struct Step {
    float decay[kStates];  // 0 where a document begins
    float after[kStates];  // the state
  };

  template <bool kFresh>
  __device__ void advance(int token, bool fresh, const Step& last, Step& step) const {
    const float2 now = *reinterpret_cast<const float2*>(&shared_.tokens[token][slot_].dt);  // Δ and Δ x
    float b[kStates];
    take_states<Of>(shared_.b[token], lane_, b);
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      step.decay[i] = kFresh && fresh ? 0.f : exp2_fast(now.x * (a_[i] * kLog2E));
      step.after[i] = step.decay[i] * (kFresh && fresh ? 0.f : last.after[i]) + now.y * b[i];
    }
  }
  /// From token `first` of the block on; steps[0] is the one before.
  template <bool kFresh>
  __device__ void advance_all(int first, Step (&steps)[1 + kStep]) const {
    const uint32_t fresh = kFresh ? fresh_of(first) : 0;
#pragma unroll
    for (int i = 0; i < kStep; ++i) advance<kFresh>(first + i, fresh >> i & 1, steps[i], steps[i + 1]);
  }

  __device__ void find_states(int64_t t) {
    const int64_t blocks = (in_.shape.length + kBlock - 1) / kBlock;
    Step steps[1 + kStep];
    float(&state)[kStates] = steps[0].after;
    part_.load(state_block(args_.saved, in_.shape, place_.row * blocks + t / kBlock), state);
#pragma unroll 1
    for (int first = 0; first < kBlock; first += kStep) {
#pragma unroll
      for (int i = 0; i < kStates; i += 4)
        shared_.before[first / kStep][i / 4][threadIdx.x] =
            make_float4(state[i], state[i + 1], state[i + 2], state[i + 3]);
      if (first + kStep == kBlock) break;
      if (any_fresh(first))
        advance_all<true>(first, steps);
      else
        advance_all<false>(first, steps);
#pragma unroll
      for (int i = 0; i < kStates; ++i) state[i] = steps[kStep].after[i];
    }
  }

  template <bool kFresh>
  __device__ void walk_back(int first) {
    Step steps[1 + kStep];
#pragma unroll
    for (int i = 0; i < kStates; i += 4) {
      const float4 four = shared_.before[first / kStep][i / 4][threadIdx.x];
      float* const state = steps[0].after + i;
      state[0] = four.x, state[1] = four.y, state[2] = four.z, state[3] = four.w;
    }
    advance_all<kFresh>(first, steps);
    const uint32_t fresh = kFresh ? fresh_of(first) : 0;
    float of_input[kStep], of_decay[kStep];  // this thread's parts of ⟨dS, B⟩ and ⟨dS e S', a⟩
#pragma unroll
    for (int i = kStep - 1; i >= 0; --i)
      retreat<kFresh>(first + i, fresh >> i & 1, steps[i], steps[i + 1], of_input[i], of_decay[i]);
    const float through_input = channel_sums<kLanes>(of_input, lane_),
                through_decay = channel_sums<kLanes>(of_decay, lane_);
    __syncwarp();
    if (lane_ >= kStep) return;
    Token& at = shared_.tokens[first + summed_value(lane_)][slot_];
    const Token token = at;
    dd_ += token.x * token.dy;
    const float ddt = (token.x * through_input + through_decay) * step_slope(in_, token.dt);
    ddt_bias_ += ddt;
    *reinterpret_cast<float2*>(&at.dt) = {ddt, token.dt * through_input + d_ * token.dy};
  }

  template <bool kFresh>
  __device__ void retreat(int token, bool fresh, const Step& last, const Step& step, float& of_input,
                          float& of_decay) {
    const Token now = shared_.tokens[token][slot_];
    float b[kStates], c[kStates], db[kStates], dc[kStates];
    take_states<Of>(shared_.b[token], lane_, b);
    take_states<Of>(shared_.c[token], lane_, c);
    of_input = of_decay = 0.f;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      float& ds = dstate_[i];
      const float kept = kFresh && fresh ? 0.f : step.decay[i] * last.after[i];
      ds += now.dy * c[i];
      dc[i] = now.dy * step.after[i];
      db[i] = ds * now.input;
      of_input += ds * b[i];
      const float of_kept = ds * kept;
      of_decay += of_kept * a_[i];
      da_[i] += of_kept * now.dt;
      ds = kFresh && fresh ? 0.f : ds * step.decay[i];
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
      float2 done[4];  // dΔ and dx
#pragma unroll
      for (int k = 0; k < 4; ++k)
        done[k] = *reinterpret_cast<const float2*>(&shared_.tokens[token][slot_of(column + k)].dt);
      const int64_t count = shape.channels - channel;
      const bool fours = shape.channels % 4 == 0;
      write_four(args_.ddt, in_.dt.element, at, {done[0].x, done[1].x, done[2].x, done[3].x}, count, fours);
      write_four(args_.dx, in_.x.element, at, {done[0].y, done[1].y, done[2].y, done[3].y}, count, fours);
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
  const int lane_, channel_, slot_;  // in the channel, in the block
  const StatePart<Of> part_;
  float dstate_[kStates], a_[kStates], d_;
  float da_[kStates] = {}, dd_ = 0.f, ddt_bias_ = 0.f;
};

}  // namespace dm::kernels::cuda
