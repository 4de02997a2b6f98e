#include "kernels/vectors/cuda/vectors.cuh"

#include <cuda_runtime.h>

#include "kernels/device/sums.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256, kEach = 4096;  // elements of a block

/// σ(Σ x) of a range, in every thread; thread i adds x[i], x[i + 256], ...
__device__ float sigmoid_of_sum(const VectorRange& range) {
  __shared__ BlockSlots slots;
  float sum = 0.f;
  for (int64_t i = threadIdx.x; i < range.count; i += kThreads) sum += range.leaf[i];
  return 1.f / (1.f + expf(-block_sum(sum, slots)));
}

// Block (i, r) has the i-th 4,096 elements of range r.
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
  for (int64_t i = first + threadIdx.x; i < min(first + kEach, range.count); i += kThreads) {
    const float x = range.leaf[i];
    range.other[i] = range.map == VectorMap::negative_exp ? -expf(x)
                     : range.map == VectorMap::scaled     ? range.factor * x
                                                          : x;
  }
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
  for (int64_t i = first + threadIdx.x; i < min(first + kEach, range.count); i += kThreads) {
    float d = slope;
    if (range.map != VectorMap::difference) {
      d = range.gradient[i];
      if (range.map == VectorMap::negative_exp) d *= -expf(range.leaf[i]);
      if (range.map == VectorMap::scaled) d *= range.factor;
    }
    range.other[i] += d;
  }
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
