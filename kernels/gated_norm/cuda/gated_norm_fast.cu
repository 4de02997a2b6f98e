// A thread block walks over tokens and has the next one's values on their way while it works on one. A thread
// has eight channels, the same for every token: it keeps their weight and sums their dweight in registers.

#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/sums.cuh"
#include "kernels/gated_norm/cuda/gated_norm_paths.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kVec = 8;
// A block has as many threads as E has pieces of eight channels. Kernels for up to 640 may have 96 registers
// each; the backward pass of wider rows has one of its own, with 64 and a few in local memory.
constexpr int kUsualThreads = 640, kMostThreads = 1024;

/// E in equal parts, for sums over each: threads of a warp add up what they have of a part in groups as large
/// as divide it, and the groups' sums meet in shared memory.
struct Partition {
  int width;   // channels of a part
  int lanes;   // of a group
  int groups;  // of a part
  float mean;  // 1 / width

  static Partition of(int64_t width, int64_t parts) {
    Partition p{static_cast<int>(width / parts), 1, 0, 0.f};
    p.mean = 1.f / static_cast<float>(p.width);
    const int threads = p.width / kVec;
    while (p.lanes < 32 && threads % (2 * p.lanes) == 0) p.lanes *= 2;
    p.groups = threads / p.lanes;
    return p;
  }
  __device__ void put(float v, float* slots, bool active) const {
    v = lane_sum(v, lanes);
    if (active && threadIdx.x % lanes == 0) slots[threadIdx.x / lanes] = v;
  }
  __device__ float sum(const float* slots, int part) const {
    float v = 0.f;
    for (int i = 0; i < groups; ++i) v += slots[part * groups + i];
    return v;
  }
};

struct Partitions {
  Partition spans, sections;
};

/// What a thread has of every token.
struct Channels {
  int first, span, section;
  bool active;
  int64_t z_column;

  __device__ Channels(const GatedNormInputs& in, const Partitions& parts) {
    first = threadIdx.x * kVec;
    active = first < in.branches * in.inner;
    span = first / parts.spans.width;
    section = in.sections > 0 ? first / parts.sections.width : 0;
    z_column = first / in.inner * in.z_branch_stride + first % in.inner;
  }
  __device__ float scale(const GatedNormInputs& in, int64_t token) const {
    if (in.sections == 0 || !active) return 1.f;
    return in.scale[(in.scale_by_token ? token * in.sections : 0) + section];
  }
};

/// The norm's weights of a thread's channels; ones without a norm.
template <bool kNorm>
__device__ Pack<float, kVec> weight_of(const GatedNormInputs& in, const Channels& my) {
  if constexpr (kNorm) return Pack<float, kVec>::of(in.weight + my.first, my.active);
  const float ones[kVec] = {1, 1, 1, 1, 1, 1, 1, 1};
  return Pack<float, kVec>::of(ones);
}

template <class T>
struct Token {
  Pack<T, kVec> y, z;
  float scale;

  __device__ void load(const GatedNormInputs& in, const Channels& my, int64_t token) {
    const bool present = my.active && token < in.tokens;
    const int64_t width = in.branches * in.inner;
    y = Pack<T, kVec>::of(static_cast<const T*>(in.y) + token * width + my.first, present);
    z = Pack<T, kVec>::of(static_cast<const T*>(in.z) + token * in.z_stride + my.z_column, present);
    if (token < in.tokens) scale = my.scale(in, token);
  }
};

template <class T, bool kNorm, int kThreads>
__global__ void __launch_bounds__(kThreads, 1)
    gated_norm_forward_kernel(const GatedNormForward args, const Partitions parts) {
  __shared__ float slots[2][kThreads];
  const GatedNormInputs& in = args.in;
  const Channels my(in, parts);
  const int64_t width = in.branches * in.inner;
  const auto weight = weight_of<kNorm>(in, my);
  Token<T> next;
  next.load(in, my, blockIdx.x);
  int turn = 0;
  for (int64_t token = blockIdx.x; token < in.tokens; token += gridDim.x, turn ^= 1) {
    const Token<T> now = next;
    next.load(in, my, token + gridDim.x);
    float g[kVec], squares = 0.f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      g[i] = now.y[i] * now.z[i] * sigmoid<T>(now.z[i]);
      squares += g[i] * g[i];
    }
    if constexpr (kNorm) {
      parts.spans.put(squares, slots[turn], my.active);
      __syncthreads();
    }
    if (!my.active) continue;
    const float r = kNorm ? rsqrtf(parts.spans.sum(slots[turn], my.span) * parts.spans.mean + in.eps) : 1.f;
    if (args.root && my.first % parts.spans.width == 0) args.root[token * in.spans + my.span] = r;
#pragma unroll
    for (int i = 0; i < kVec; ++i) g[i] *= r * (weight[i] * now.scale);
    Pack<T, kVec>::of(g).to(static_cast<T*>(args.out) + token * width + my.first);
  }
}

// With n = g r, dn = dout weight scale and k = mean over the span of dn n:
//   dg = r (dn - n k),  dy = dg z σ(z),  dz = dg y σ(z) (1 + z (1 - σ(z))),  dweight = Σ dout n scale,
//   dscale = Σ_section dout n weight
// A scale of each token wants the last sum for every token. Where one scale is all tokens', both sums over
// tokens are of the same dout n: the scale and the weight come in at the end, and a section is summed once.
template <class T, bool kNorm, bool kByToken, int kThreads>
__global__ void __launch_bounds__(kThreads, 1)
    gated_norm_backward_kernel(const GatedNormBackward args, const Partitions parts) {
  __shared__ float along[2][kThreads], pulls[kByToken ? 2 : 1][kThreads];
  const GatedNormInputs& in = args.in;
  const Channels my(in, parts);
  const int64_t width = in.branches * in.inner;
  const T* const dout = static_cast<const T*>(args.dout) + my.first;
  const float only_scale = kByToken ? 1.f : my.scale(in, 0);
  float factor[kVec], dweight[kVec] = {};  // weight and the one scale; with it: still without the scale
  const auto first_weight = weight_of<kNorm>(in, my);
#pragma unroll
  for (int i = 0; i < kVec; ++i) factor[i] = first_weight[i] * only_scale;
  Token<T> next;
  next.load(in, my, blockIdx.x);
  auto next_dout = Pack<T, kVec>::of(dout + blockIdx.x * width, my.active);
  int turn = 0;
  for (int64_t token = blockIdx.x; token < in.tokens; token += gridDim.x, turn ^= 1) {
    const Token<T> now = next;
    const Pack<T, kVec> now_dout = next_dout;
    const int64_t ahead = token + gridDim.x;
    next.load(in, my, ahead);
    next_dout = Pack<T, kVec>::of(dout + ahead * width, my.active && ahead < in.tokens);
    const float r = !my.active ? 0.f : kNorm ? args.root[token * in.spans + my.span] : 1.f;
    const float scale = kByToken ? now.scale : 1.f;
    float n[kVec], sigma[kVec], pull = 0.f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      sigma[i] = sigmoid<T>(now.z[i]);
      n[i] = now.y[i] * now.z[i] * sigma[i] * r;
      const float d = now_dout[i] * n[i];
      dweight[i] += d * scale;
      pull += d * factor[i];
    }
    if constexpr (kNorm) parts.spans.put(pull * scale, along[turn], my.active);
    if constexpr (kByToken) parts.sections.put(pull, pulls[turn], my.active);
    if constexpr (kNorm || kByToken) __syncthreads();
    if constexpr (kByToken)
      if (threadIdx.x < in.sections)
        args.dscale[token * in.sections + threadIdx.x] = parts.sections.sum(pulls[turn], threadIdx.x);
    if (!my.active) continue;
    const float k = kNorm ? parts.spans.sum(along[turn], my.span) * parts.spans.mean : 0.f;
    float dy[kVec];
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      const float dg = r * (now_dout[i] * (factor[i] * scale) - n[i] * k), silu = now.z[i] * sigma[i];
      dy[i] = dg * silu;
      n[i] = dg * now.y[i] * (sigma[i] + silu * (1.f - sigma[i]));
    }
    Pack<T, kVec>::of(dy).to(static_cast<T*>(args.dy) + token * width + my.first);
    Pack<T, kVec>::of(n).to(static_cast<T*>(args.dz) + token * in.z_stride + my.z_column);
  }
  float* const sums = static_cast<float*>(args.workspace) + blockIdx.x * gated_norm_sums(in);
  const auto weight = weight_of<kNorm>(in, my);  // read again rather than held
  float pull = 0.f;
#pragma unroll
  for (int i = 0; i < kVec; ++i) {
    pull += dweight[i] * weight[i];
    if (my.active) sums[my.first + i] = dweight[i] * only_scale;
  }
  if constexpr (!kByToken) {
    if (in.sections == 0) return;
    parts.sections.put(pull, pulls[0], my.active);
    __syncthreads();
    if (threadIdx.x < in.sections) sums[width + threadIdx.x] = parts.sections.sum(pulls[0], threadIdx.x);
  }
}

Partitions partitions_of(const GatedNormInputs& in) {
  const int64_t width = gated_norm_width(in);
  return {Partition::of(width, std::max<int64_t>(in.spans, 1)),
          Partition::of(width, std::max<int64_t>(in.sections, 1))};
}

int threads_of(const GatedNormInputs& in) { return threads_for(gated_norm_width(in), kVec); }

template <class Args, class Kernel>
cudaError_t launch(Kernel kernel, const Args& args, cudaStream_t stream) {
  const int threads = threads_of(args.in);
  const auto blocks =
      static_cast<unsigned>(std::min(args.in.tokens, std::max<int64_t>(resident_blocks(kernel, threads), 1)));
  kernel<<<blocks, threads, 0, stream>>>(args, partitions_of(args.in));
  return cudaGetLastError();
}

template <class T, bool kNorm, bool kByToken>
auto backward_kernel(int threads) {
  return threads <= kUsualThreads ? gated_norm_backward_kernel<T, kNorm, kByToken, kUsualThreads>
                                  : gated_norm_backward_kernel<T, kNorm, kByToken, kMostThreads>;
}
template <class T, bool kNorm>
auto backward_kernel(const GatedNormInputs& in) {
  const int threads = threads_of(in);
  return in.scale_by_token ? backward_kernel<T, kNorm, true>(threads)
                           : backward_kernel<T, kNorm, false>(threads);
}
auto backward_kernel(const GatedNormInputs& in) {
  return for_element(in.element, [&](auto element) {
    using T = decltype(element);
    return in.spans > 0 ? backward_kernel<T, true>(in) : backward_kernel<T, false>(in);
  });
}
auto forward_kernel(const GatedNormInputs& in) {  // 64 registers are enough
  return for_element(in.element, [&](auto element) {
    using T = decltype(element);
    return in.spans > 0 ? gated_norm_forward_kernel<T, true, kMostThreads>
                        : gated_norm_forward_kernel<T, false, kMostThreads>;
  });
}

}  // namespace

bool gated_norm_is_fast(const GatedNormInputs& in) {
  const int64_t width = gated_norm_width(in);
  return width <= kVec * kMostThreads && width / std::max<int64_t>(in.spans, 1) % kVec == 0 &&
         (in.sections == 0 || width / in.sections % kVec == 0) && in.inner % kVec == 0 &&
         in.z_stride % kVec == 0 && in.z_branch_stride % kVec == 0 && in_packs(in.y) && in_packs(in.z) &&
         in_packs(in.weight);
}

int64_t gated_norm_fast_parts(const GatedNormInputs& in) {
  if (!gated_norm_is_fast(in)) return 0;
  const int64_t resident = resident_blocks(backward_kernel(in), threads_of(in));
  return std::min(in.tokens, std::max<int64_t>(resident, 1));
}

cudaError_t gated_norm_fast_forward(const GatedNormForward& args, cudaStream_t stream) {
  return launch(forward_kernel(args.in), args, stream);
}

cudaError_t gated_norm_fast_backward(const GatedNormBackward& args, cudaStream_t stream) {
  return launch(backward_kernel(args.in), args, stream);
}

}  // namespace dm::kernels::cuda
