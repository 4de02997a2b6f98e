#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/decode/cuda/early.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kTaps = 4, kHalo = kTaps - 1;
constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kFew = 2, kMany = 8;  // channels of a warp: for few blocks more, for many less repeated work
constexpr int kMostStates = 128;
constexpr int kConvEach = (kWarps * kMany + 2 * kMostStates + kThreads - 1) / kThreads;
constexpr float kLog2E = 1.4426950408889634f;

/// What of a branch's convolved channels one of a block's is: the block's of x, then its group's B, then C.
template <int kChannels>
struct BlockChannels {
  int64_t x, b, c;  // first channels
  int states;
  __device__ int count() const { return kChannels + 2 * states; }
  __device__ int64_t of(int i) const {
    if (i < kChannels) return x + i;
    return i < kChannels + states ? b + i - kChannels : c + i - kChannels - states;
  }
};

// A block has some channels of one head of one row; the states of a warp's are on their way before the input
// is there. Every block convolves its group's B and C by itself.
template <int kChannelsEach>
__global__ void __launch_bounds__(kThreads) mixer_step_kernel(const MixerStep args) {
  constexpr int kChannels = kWarps * kChannelsEach;
  __shared__ __align__(16) float convolved[kChannels + 2 * kMostStates];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int states = static_cast<int>(args.states);
  const int64_t head_dim = args.inner / args.heads, parts = head_dim / kChannels;
  const int64_t head = blockIdx.x / parts, part = blockIdx.x % parts, row = blockIdx.y;
  const int64_t branch = head / args.heads, own_head = head % args.heads;
  const int64_t group = own_head / (args.heads / args.groups);
  const BlockChannels<kChannels> block{own_head * head_dim + part * kChannels,
                                       args.inner + group * args.states,
                                       args.inner + (args.groups + group) * args.states, states};

  // What earlier kernels of this token do not write.
  const int64_t all_channels = args.branches * args.channels();
  float4 taps[kConvEach];
  float bias[kConvEach], before[kConvEach][kHalo];
#pragma unroll
  for (int k = 0; k < kConvEach; ++k) {
    const int i = static_cast<int>(threadIdx.x) + k * kThreads;
    if (i >= block.count()) continue;
    const int64_t channel = branch * args.channels() + block.of(i);
    taps[k] = reinterpret_cast<const float4*>(args.conv_weight)[channel];
    bias[k] = args.conv_bias[channel];
    const bf16* const window = static_cast<const bf16*>(args.window) + row * kHalo * all_channels + channel;
#pragma unroll
    for (int t = 0; t < kHalo; ++t) before[k][t] = to_float(window[t * all_channels]);
  }
  const int64_t heads = args.branches * args.heads;
  const int64_t first = (row * heads + head) * head_dim + part * kChannels + warp * kChannelsEach;
  float4 s[kChannelsEach];
  const bool holds = lane * 4 < states;
  float4* const state = reinterpret_cast<float4*>(args.state + first * args.states) + lane;
#pragma unroll
  for (int p = 0; p < kChannelsEach; ++p) s[p] = holds ? state[p * (states / 4)] : float4{};
  const float dt_bias = args.dt_bias[head], a = args.a[head], d = args.d[head];
  let_next_kernel_start();
  wait_for_earlier_kernels();

  const bf16* const columns = static_cast<const bf16*>(args.projected) + row * args.projected_stride +
                              branch * args.columns() + args.inner;
  const float raw = to_float(columns[args.channels() + own_head]) + dt_bias;
#pragma unroll
  for (int k = 0; k < kConvEach; ++k) {
    const int i = static_cast<int>(threadIdx.x) + k * kThreads;
    if (i >= block.count()) continue;
    const float now = to_float(columns[block.of(i)]);
    const float u = bias[k] + taps[k].x * before[k][0] + taps[k].y * before[k][1] + taps[k].z * before[k][2] +
                    taps[k].w * now;
    convolved[i] = u * sigmoid<float>(u);
  }
  __syncthreads();
  const float softplus = raw > 20.f ? raw : log1pf(expf(raw));
  const float dt = fminf(fmaxf(softplus, args.dt_min), args.dt_max), decay = exp2_fast(dt * a * kLog2E);
  const float4 zero{};
  const float4 b = holds ? *reinterpret_cast<const float4*>(convolved + kChannels + lane * 4) : zero;
  const float4 c = holds ? *reinterpret_cast<const float4*>(convolved + kChannels + states + lane * 4) : zero;
#pragma unroll
  for (int p = 0; p < kChannelsEach; ++p) {
    const float x = convolved[warp * kChannelsEach + p], input = dt * x;
    s[p] = {decay * s[p].x + input * b.x, decay * s[p].y + input * b.y, decay * s[p].z + input * b.z,
            decay * s[p].w + input * b.w};
    if (holds) state[p * (states / 4)] = s[p];
    const float y = warp_sum(s[p].x * c.x + s[p].y * c.y + s[p].z * c.z + s[p].w * c.w);
    if (lane == 0) put(static_cast<bf16*>(args.y) + first + p, y + d * x);
  }
}

}  // namespace

bool mixer_step_serves(const MixerStep& args) {
  return args.inner / args.heads % (kWarps * kFew) == 0 && args.states % 4 == 0 &&
         args.states <= kMostStates && in_packs(args.conv_weight) && in_packs(args.state) &&
         args.rows < 65536;
}

cudaError_t mixer_step(const MixerStep& args, cudaStream_t stream) {
  const auto launch = [&](auto kernel, int channels) {
    const auto blocks = static_cast<unsigned>(args.branches * args.inner / channels);
    return launch_early(kernel, dim3(blocks, static_cast<unsigned>(args.rows)), kThreads, 0, stream, args);
  };
  const bool many = args.rows >= 4 && args.inner / args.heads % (kWarps * kMany) == 0;
  return many ? launch(mixer_step_kernel<kMany>, kWarps * kMany)
              : launch(mixer_step_kernel<kFew>, kWarps * kFew);
}

}  // namespace dm::kernels::cuda
