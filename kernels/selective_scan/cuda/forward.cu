#include "kernels/selective_scan/cuda/launch.cuh"
#include "kernels/selective_scan/cuda/scan.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 128;

/// A thread block has a few channels of one row's segment and walks along it in tiles of tokens; the next
/// tile is on its way into registers meanwhile.
template <class Of>
class Forward {
 public:
  static constexpr int kLanes = Of::kLanes, kStates = Of::kStates, kWidth = Of::kWidth;
  static constexpr int kChannels = kThreads / kLanes;  // of a thread block
  static constexpr int kTile = kLanes == 4 ? 16 : 8;   // tokens; divides kSavedTokens

  struct alignas(16) Shared {
    float x[kTile][kChannels];      // y in its place once a token is done
    float2 step[kTile][kChannels];  // Δ and Δ x
    float b[kTile][kWidth], c[kTile][kWidth];
    float bias[kChannels];
    uint32_t begins;  // bit i: the state before token i counts as zero
  };

  __device__ Forward(const SelectiveForward& args, const Segments& segments, Shared& shared)
      : args_(args),
        in_(args.in),
        place_(args.in.shape, segments),
        shared_(shared),
        first_channel_(int64_t{blockIdx.x} * kChannels),
        b_rows_(of_group(in_, in_.b, first_channel_)),
        c_rows_(of_group(in_, in_.c, first_channel_)),
        lane_(threadIdx.x % kLanes),
        channel_(threadIdx.x / kLanes),
        part_(args.in.shape, first_channel_ + channel_, lane_),
        x_fours_(in_fours(in_.x, in_.shape.channels)),
        dt_fours_(in_fours(in_.dt, in_.shape.channels)),
        b_fours_(in_fours(b_rows_, in_.shape.states)),
        c_fours_(in_fours(c_rows_, in_.shape.states)) {
    if (threadIdx.x < kChannels) shared_.bias[threadIdx.x] = step_bias(in_, first_channel_ + threadIdx.x);
    const float* const starts = segments.count > 1 ? segments.states : in_.initial_state;
    part_.load(state_block(starts, in_.shape, place_.row * segments.count + place_.segment), state_);
    part_.load(in_.a, a2_);
#pragma unroll
    for (int i = 0; i < kStates; ++i) a2_[i] *= kLog2E;
    d_ = first_channel_ + channel_ < in_.shape.channels ? in_.d[first_channel_ + channel_] : 0.f;
  }

  __device__ void run() {
    fetch(place_.begin);
    for (int64_t t = place_.begin; t < place_.end; t += kTile) {
      __syncthreads();
      arrive();
      __syncthreads();
      if (t + kTile < place_.end) fetch(t + kTile);
      if (args_.saved != nullptr && t % kSavedTokens == 0) save(t);
      if (const uint32_t fresh = shared_.begins; __any_sync(~0u, fresh != 0))
        walk<true>(fresh);
      else
        walk<false>(0);
      __syncthreads();
      store(t);
    }
    if (place_.end == in_.shape.length && args_.final_state != nullptr)
      part_.store(state_block(args_.final_state, in_.shape, place_.row), state_);
  }

 private:
  using OfTokens = Fours<kTile, kChannels, kThreads>;
  using OfStates = Fours<kTile, kWidth, kThreads>;

  __device__ void fetch(int64_t t) {
    const SelectiveShape& shape = in_.shape;
    const int64_t row = place_.row * shape.length + t, tokens = place_.end - t;
    tokens_ = static_cast<int>(min(tokens, int64_t{kTile}));
    OfTokens::each([&](int k, int token, int channel) {
      const int64_t width = token < tokens ? shape.channels : 0;
      x_[k] = four_bits(in_.x, row + token, first_channel_ + channel, width, x_fours_);
      dt_[k] = four_bits(in_.dt, row + token, first_channel_ + channel, width, dt_fours_);
    });
    OfStates::each([&](int k, int token, int n) {
      const int64_t width = token < tokens ? shape.states : 0;
      b_[k] = four_bits(b_rows_, row + token, n, width, b_fours_);
      c_[k] = four_bits(c_rows_, row + token, n, width, c_fours_);
    });
    if (threadIdx.x < 32)
      begins_ = __ballot_sync(~0u, threadIdx.x < kTile && begins(in_, place_.row, t + threadIdx.x));
  }

  __device__ void arrive() {
    OfTokens::each([&](int k, int token, int channel) {
      const float4 x = four_values(in_.x, x_[k]), dt = four_values(in_.dt, dt_[k]),
                   bias = *reinterpret_cast<float4*>(&shared_.bias[channel]),
                   // Behind the last token nothing may move the state.
          step = steps_of(in_, dt, bias, token < tokens_);
      *reinterpret_cast<float4*>(&shared_.x[token][channel]) = x;
      auto* const steps = reinterpret_cast<float4*>(&shared_.step[token][channel]);
      steps[0] = {step.x, step.x * x.x, step.y, step.y * x.y};
      steps[1] = {step.z, step.z * x.z, step.w, step.w * x.w};
    });
    OfStates::each([&](int k, int token, int n) {
      *reinterpret_cast<float4*>(&shared_.b[token][n]) = four_values(in_.b, b_[k]);
      *reinterpret_cast<float4*>(&shared_.c[token][n]) = four_values(in_.c, c_[k]);
    });
    if (threadIdx.x == 0) shared_.begins = begins_;
  }

  __device__ void save(int64_t t) const {
    const int64_t blocks = (in_.shape.length + kSavedTokens - 1) / kSavedTokens;
    part_.store(state_block(args_.saved, in_.shape, place_.row * blocks + t / kSavedTokens), state_);
  }

  template <bool kFresh>
  __device__ float step(int token, bool fresh) {
    const float2 now = shared_.step[token][channel_];
    float b[kStates], c[kStates];
    take_states<Of>(shared_.b[token], lane_, b);
    take_states<Of>(shared_.c[token], lane_, c);
    float y = 0.f;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const float before = kFresh && fresh ? 0.f : state_[i];
      state_[i] = exp2_fast(now.x * a2_[i]) * before + now.y * b[i];
      y += state_[i] * c[i];
    }
    return y;
  }

  /// `fresh`: bit i of each token i whose state before counts as zero; none without kFresh.
  template <bool kFresh>
  __device__ void walk(uint32_t fresh) {
    constexpr int kUnrolled = kFresh ? 1 : kTile / 4;
#pragma unroll kUnrolled
    for (int first = 0; first < kTile; first += 4) {
      float y[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) y[i] = step<kFresh>(first + i, fresh >> (first + i) & 1);
      const float sum = channel_sums<kLanes>(y, lane_);
      __syncwarp();
      float& at = shared_.x[first + summed_value(lane_)][channel_];
      if (lane_ < 4) at = sum + d_ * at;
    }
  }

  __device__ void store(int64_t t) const {
    const SelectiveShape& shape = in_.shape;
    const int64_t row = place_.row * shape.length + t;
    OfTokens::each([&](int, int token, int column) {
      const int64_t channel = first_channel_ + column;
      if (t + token < place_.end && channel < shape.channels)
        write_four(args_.y, in_.x.element, (row + token) * shape.channels + channel,
                   *reinterpret_cast<const float4*>(&shared_.x[token][column]), shape.channels - channel,
                   shape.channels % 4 == 0);
    });
  }

  const SelectiveForward& args_;
  const SelectiveInputs& in_;
  const Place place_;
  Shared& shared_;
  const int64_t first_channel_;
  const Rows b_rows_, c_rows_;
  const int lane_, channel_;  // in the channel, in the block
  const StatePart<Of> part_;
  float state_[kStates], a2_[kStates], d_;  // a2: a log2(e)
  const bool x_fours_, dt_fours_, b_fours_, c_fours_;
  FourBits x_[OfTokens::kCount], dt_[OfTokens::kCount], b_[OfStates::kCount],
      c_[OfStates::kCount];  // next tile
  uint32_t begins_ = 0;      // likewise
  int tokens_ = 0;           // likewise
};

template <class Of>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const SelectiveForward args, const Segments segments) {
  __shared__ alignas(16) typename Forward<Of>::Shared shared;
  Forward<Of>(args, segments, shared).run();
}

template <class Of>
cudaError_t launch(const SelectiveForward& args, const Segments& segments, cudaStream_t stream) {
  forward_kernel<Of>
      <<<grid_of(args.in.shape, segments, Forward<Of>::kChannels), kThreads, 0, stream>>>(args, segments);
  return cudaGetLastError();
}

}  // namespace

int64_t selective_saved_floats(const SelectiveShape& shape) {
  return (shape.length + kSavedTokens - 1) / kSavedTokens * shape.rows * shape.channels * shape.states;
}

int64_t selective_forward_bytes(const SelectiveShape& shape) { return segment_bytes(shape); }

cudaError_t selective_forward(const SelectiveForward& args, cudaStream_t stream) {
  const Segments segments = cut_segments(args.in.shape, args.workspace);
  if (const cudaError_t error = find_segment_states(args.in, segments, stream); error != cudaSuccess)
    return error;
  return for_lanes(args.in.shape, [&]<class Of>() { return launch<Of>(args, segments, stream); });
}

}  // namespace dm::kernels::cuda
