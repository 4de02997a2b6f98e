#include "kernels/adamw/cuda/adamw_cuda.cuh"

#include <cuda_runtime.h>

#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPacks = 2;                         // of four elements a thread
constexpr int kElements = kThreads * kPacks * 4;  // of a thread block

/// Which elements of a block take weight decay: looked up once a block, element by element only where a
/// border lies inside it.
class Decay {
 public:
  __device__ Decay(const AdamWArguments& args, int64_t begin) : args_(args) {
    const int64_t end = min(begin + kElements, args.count);
    at_ = first_beyond(begin);
    const IndexRange range = at_ < args.decayed_count ? args.decayed[at_] : IndexRange{end, end};
    all_ = range.begin <= begin && range.end >= end;
    none_ = range.begin >= end;
  }
  __device__ bool operator()(int64_t i) {
    if (all_ || none_) return all_;
    while (at_ < args_.decayed_count && args_.decayed[at_].end <= i) ++at_;
    return at_ < args_.decayed_count && args_.decayed[at_].begin <= i;
  }

 private:
  /// The first range that ends beyond element i.
  __device__ int64_t first_beyond(int64_t i) const {
    int64_t low = 0, high = args_.decayed_count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (args_.decayed[middle].end <= i)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  const AdamWArguments& args_;
  int64_t at_;
  bool all_, none_;
};

/// The order of operations of adamw_simd.cpp. The intrinsics are never contracted into fused multiply-adds.
__device__ void update(float& weight, float& m, float& v, float grad, const AdamWFactors<float>& f,
                       float keep) {
  const float g = __fmul_rn(f.grad_scale, grad);
  m = __fadd_rn(__fmul_rn(f.beta1, m), __fmul_rn(__fsub_rn(1.f, f.beta1), g));
  v = __fadd_rn(__fmul_rn(f.beta2, v), __fmul_rn(__fsub_rn(1.f, f.beta2), __fmul_rn(g, g)));
  const float down = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), f.root), f.eps);
  weight = __fsub_rn(__fmul_rn(keep, weight), __fmul_rn(f.rate, __fdiv_rn(m, down)));
}

/// Four elements that are read once a step: they need no place in the caches.
struct Four {
  float v[4];
  __device__ static Four of(const float* from) {
    const float4 four = __ldcs(reinterpret_cast<const float4*>(from));
    return {four.x, four.y, four.z, four.w};
  }
  __device__ void to(float* memory) const {
    __stcs(reinterpret_cast<float4*>(memory), make_float4(v[0], v[1], v[2], v[3]));
  }
};

/// A whole block. The loads come first: what is looked up meanwhile hides behind them.
__device__ void update_packs(const AdamWArguments& args, int64_t begin) {
  Four weight[kPacks], m[kPacks], v[kPacks], grad[kPacks];
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int64_t i = begin + (k * kThreads + threadIdx.x) * 4;
    grad[k] = Four::of(args.grad + i);
    m[k] = Four::of(args.m + i);
    v[k] = Four::of(args.v + i);
    weight[k] = Four::of(args.weight + i);
  }
  const AdamWFactors<float> f = *args.factors;
  Decay decay(args, begin);
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int64_t i = begin + (k * kThreads + threadIdx.x) * 4;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      update(weight[k].v[j], m[k].v[j], v[k].v[j], grad[k].v[j], f, decay(i + j) ? f.keep : 1.f);
    m[k].to(args.m + i);
    v[k].to(args.v + i);
    weight[k].to(args.weight + i);
  }
}

__device__ void update_singly(const AdamWArguments& args, int64_t begin) {
  const AdamWFactors<float> f = *args.factors;
  Decay decay(args, begin);
  for (int64_t i = begin + threadIdx.x; i < min(begin + kElements, args.count); i += kThreads)
    update(args.weight[i], args.m[i], args.v[i], args.grad[i], f, decay(i) ? f.keep : 1.f);
}

__global__ void __launch_bounds__(kThreads) adamw_kernel(const AdamWArguments args, bool aligned) {
  const int64_t begin = int64_t{blockIdx.x} * kElements;
  if (aligned && begin + kElements <= args.count)
    update_packs(args, begin);
  else
    update_singly(args, begin);
}

}  // namespace

cudaError_t adamw(const AdamWArguments& args, cudaStream_t stream) {
  if (args.count == 0) return cudaSuccess;
  const bool aligned = in_packs(args.weight) && in_packs(args.m) && in_packs(args.v) && in_packs(args.grad);
  const auto blocks = static_cast<unsigned>((args.count + kElements - 1) / kElements);
  adamw_kernel<<<blocks, kThreads, 0, stream>>>(args, aligned);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
