#include "kernels/dropout/cuda/dropout_cuda.cuh"

#include <algorithm>

#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWords = 4;  // of a draw: as many channels

/// As dm::philox in core/rng.cpp, which the tests hold this to.
__device__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t a_low = 0xD2511F53u * counter.x, a_high = __umulhi(0xD2511F53u, counter.x);
    const uint32_t b_low = 0xCD9E8D57u * counter.z, b_high = __umulhi(0xCD9E8D57u, counter.z);
    counter = {b_high ^ counter.y ^ key.x, b_low, a_high ^ counter.w ^ key.y, a_low};
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}

template <class T>
__global__ void __launch_bounds__(kThreads) dropout_kernel(const DropoutArgs args) {
  const int64_t draws = (args.width + kWords - 1) / kWords, count = args.tokens * draws;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t t = i / draws, draw = i % draws, token = args.first + t;
    const auto sample = static_cast<uint64_t>(args.samples[token / args.length]);
    const uint4 words =
        philox({static_cast<uint32_t>(draw), static_cast<uint32_t>(args.position + token % args.length),
                static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32)},
               {args.key[0], args.key[1]});
    const uint32_t word[kWords] = {words.x, words.y, words.z, words.w};
    const int64_t begin = t * args.width + draw * kWords;
    const int channels = static_cast<int>(min(int64_t{kWords}, args.width - draw * kWords));
#pragma unroll
    for (int c = 0; c < kWords; ++c) {
      if (c >= channels) break;
      const float x = to_float(static_cast<const T*>(args.x)[begin + c]);
      put(static_cast<T*>(args.y) + begin + c, word[c] >= args.threshold ? x * args.scale : 0.f);
    }
  }
}

}  // namespace

cudaError_t dropout(const DropoutArgs& args, cudaStream_t stream) {
  const int64_t count = args.tokens * ((args.width + kWords - 1) / kWords);
  if (count == 0) return cudaSuccess;
  return for_element(args.element, [&](auto element) {
    const auto kernel = dropout_kernel<decltype(element)>;
    const int64_t resident = resident_blocks(kernel, kThreads);
    if (resident == 0) return cudaErrorInvalidDevice;
    const auto blocks = static_cast<unsigned>(std::min((count + kThreads - 1) / kThreads, resident));
    kernel<<<blocks, kThreads, 0, stream>>>(args);
    return cudaGetLastError();
  });
}

}  // namespace dm::kernels::cuda
