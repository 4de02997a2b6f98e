#include "kernels/vectors/cuda/vectors.cuh"

#include <cuda_runtime.h>

#include "kernels/device/sums.cuh"

namespace dm::kernels::cuda {
namespace {

// Elements of a thread, which are all under way before the first of them is looked at, and of a block: what
// takes time is the way to memory and back.
constexpr int kThreads = 256, kOfThread = 4, kEach = kThreads * kOfThread;

/// visit(k, i) for this thread's elements i of `count` from `first` on.
template <class Visit>
__device__ void each(int64_t first, int64_t count, const Visit& visit) {
#pragma unroll
  for (int k = 0; k < kOfThread; ++k)
    if (const int64_t i = first + k * kThreads + threadIdx.x; i < count) visit(k, i);
}

/// σ(Σ x) of a range, in every thread; thread i adds x[i], x[i + 256], ...
__device__ float sigmoid_of_sum(const VectorRange& range) {
  __shared__ BlockSlots slots;
  float sum = 0.f;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < range.count; i += kThreads) sum += range.leaf[i];
  return 1.f / (1.f + expf(-block_sum(sum, slots)));
}

// Block (i, r) has the i-th kEach elements of range r.
__global__ void __launch_bounds__(kThreads) gather_vectors_kernel(const VectorRanges ranges) {
  const VectorRange& range = ranges.of[blockIdx.y];
  const int64_t first = int64_t{blockIdx.x} * kEach;
  if (range.map == VectorMap::difference) {
    if (first > 0) return;
    const float s = sigmoid_of_sum(range);
    if (threadIdx.x == 0) {
      range.other[0] = range.factor;
      range.other[1] = -range.factor * (s + range.offset);
    }
    return;
  }
  float x[kOfThread];
  each(first, range.count, [&](int k, int64_t i) { x[k] = range.leaf[i]; });
  each(first, range.count, [&](int k, int64_t i) {
    range.other[i] = range.map == VectorMap::negative_exp ? -expf(x[k])
                     : range.map == VectorMap::scaled     ? range.factor * x[k]
                                                          : x[k];
  });
}

__global__ void __launch_bounds__(kThreads) add_vector_gradients_kernel(const VectorRanges ranges) {
  const VectorRange& range = ranges.of[blockIdx.y];
  const int64_t first = int64_t{blockIdx.x} * kEach;
  if (first >= range.count) return;
  float slope = 0.f;  // the same for every element
  if (range.map == VectorMap::difference) {
    const float s = sigmoid_of_sum(range);
    slope = -range.factor * range.gradient[1] * s * (1.f - s);
  }
  const bool rate = range.map == VectorMap::negative_exp, own = range.map != VectorMap::difference;
  float sum[kOfThread], d[kOfThread], x[kOfThread];
  each(first, range.count, [&](int k, int64_t i) {
    sum[k] = range.other[i];
    d[k] = own ? range.gradient[i] : slope;
    x[k] = rate ? range.leaf[i] : 0.f;
  });
  each(first, range.count, [&](int k, int64_t i) {
    const float factor = rate ? -expf(x[k]) : range.map == VectorMap::scaled ? range.factor : 1.f;
    range.other[i] = sum[k] + d[k] * factor;
  });
}

template <class Kernel>
cudaError_t launch(Kernel kernel, const VectorRanges& ranges, cudaStream_t stream) {
  if (ranges.count == 0) return cudaSuccess;
  int64_t most = 1;
  for (int i = 0; i < ranges.count; ++i) most = ranges.of[i].count > most ? ranges.of[i].count : most;
  const dim3 blocks(static_cast<unsigned>((most + kEach - 1) / kEach), static_cast<unsigned>(ranges.count));
  kernel<<<blocks, kThreads, 0, stream>>>(ranges);
  return cudaGetLastError();
}

}  // namespace

cudaError_t gather_vectors(const VectorRanges& ranges, cudaStream_t stream) {
  return launch(gather_vectors_kernel, ranges, stream);
}
cudaError_t add_vector_gradients(const VectorRanges& ranges, cudaStream_t stream) {
  return launch(add_vector_gradients_kernel, ranges, stream);
}

}  // namespace dm::kernels::cuda
