#include "kernels/square_sum/cuda/square_sum_cuda.cuh"

#include <cuda_runtime.h>

#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 1024;  // whatever the device has, so that the order is the same everywhere
constexpr int kBatch = 4;      // loads a thread has in flight
constexpr int64_t kNone = INT64_MAX;

struct Part {
  double sum = 0;
  int64_t first = kNone;

  __device__ void add(const Part& other) {
    sum += other.sum;
    first = min(first, other.first);
  }
  __device__ void add(float x, int64_t i) {
    sum = fma(static_cast<double>(x), static_cast<double>(x), sum);
    if (!isfinite(x)) first = min(first, i);
  }
};

/// In thread 0.
__device__ Part block_sum(Part mine) {
  __shared__ Part warps[kThreads / 32];
  const auto over_warp = [&] {
    for (int step = 16; step > 0; step /= 2)
      mine.add({__shfl_xor_sync(~0u, mine.sum, step), __shfl_xor_sync(~0u, mine.first, step)});
  };
  over_warp();
  const int lane = threadIdx.x % 32;
  if (lane == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  mine = lane < kThreads / 32 ? warps[lane] : Part{};
  over_warp();
  return mine;
}

__global__ void __launch_bounds__(kThreads)
    square_kernel(const float* values, int64_t count, int64_t packs, Part* parts) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x, threads = int64_t{kBlocks} * kThreads;
  Part mine;
  for (int64_t begin = thread; begin < packs; begin += kBatch * threads) {
    float4 batch[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      batch[k] = begin + k * threads < packs ? reinterpret_cast<const float4*>(values)[begin + k * threads]
                                             : float4{};
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int64_t i = (begin + k * threads) * 4;
      mine.add(batch[k].x, i);
      mine.add(batch[k].y, i + 1);
      mine.add(batch[k].z, i + 2);
      mine.add(batch[k].w, i + 3);
    }
  }
  for (int64_t i = packs * 4 + thread; i < count; i += threads) mine.add(values[i], i);
  mine = block_sum(mine);
  if (threadIdx.x == 0) parts[blockIdx.x] = mine;
}

__global__ void __launch_bounds__(kThreads) finish_kernel(const Part* parts, double* sum, int64_t* first) {
  Part mine;
  for (int i = threadIdx.x; i < kBlocks; i += kThreads) mine.add(parts[i]);
  mine = block_sum(mine);
  if (threadIdx.x != 0) return;
  *sum = mine.sum;
  *first = mine.first == kNone ? -1 : mine.first;
}

}  // namespace

int64_t square_sum_workspace_bytes() { return kBlocks * int64_t{sizeof(Part)}; }

cudaError_t square_sum(const float* values, int64_t count, void* workspace, double* sum,
                       int64_t* first_nonfinite, cudaStream_t stream) {
  Part* const parts = static_cast<Part*>(workspace);
  square_kernel<<<kBlocks, kThreads, 0, stream>>>(values, count, in_packs(values) ? count / 4 : 0, parts);
  finish_kernel<<<1, kThreads, 0, stream>>>(parts, sum, first_nonfinite);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
