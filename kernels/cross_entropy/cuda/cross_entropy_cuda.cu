#include "kernels/cross_entropy/cuda/cross_entropy_cuda.cuh"

#include <math_constants.h>

#include <cfloat>

#include "kernels/device/elements.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBatch = 4;  // packs a thread has in flight
constexpr float kLog2E = 1.4426950408889634f;

/// e^(value - most). The difference comes first: it is exact where it matters, next to zero.
__device__ float exp_below(float value, float most) { return exp2_fast((value - most) * kLog2E); }

/// Σ exp(values) as sum · e^most.
struct ExpSum {
  float most = -FLT_MAX;
  float sum = 0.f;
};

__device__ ExpSum sum_of(const ExpSum& a, const ExpSum& b) {
  const float most = fmaxf(a.most, b.most);
  return {most, a.sum * exp_below(a.most, most) + b.sum * exp_below(b.most, most)};
}

template <int kCount, class Values>
__device__ ExpSum with(const ExpSum& a, const Values& values) {
  float most = a.most;
#pragma unroll
  for (int i = 0; i < kCount; ++i) most = fmaxf(most, values[i]);
  float sum = a.sum * exp_below(a.most, most);
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum += exp_below(values[i], most);
  return {most, sum};
}

__device__ ExpSum sum_over_warp(ExpSum mine) {
  for (int step = 16; step > 0; step /= 2)
    mine = sum_of(mine, ExpSum{__shfl_xor_sync(~0u, mine.most, step), __shfl_xor_sync(~0u, mine.sum, step)});
  return mine;
}

/// The same value in all threads.
__device__ ExpSum sum_over_block(ExpSum mine) {
  __shared__ ExpSum warps[kWarps];
  mine = sum_over_warp(mine);
  const int lane = threadIdx.x % 32;
  if (lane == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  return sum_over_warp(lane < kWarps ? warps[lane] : ExpSum{});
}

template <class T>
inline constexpr int kWide = 16 / sizeof(T);

/// The packs of a row that thread t has are t, t + kThreads, ..: wide(pack, its number) for this thread's,
/// with kBatch loads in flight; and the elements behind the last whole pack are the first threads':
/// single(element).
template <class T, class Wide, class Single>
__device__ void for_row(const T* row, int64_t vocabulary, const Wide& wide, const Single& single) {
  const int64_t packs = vocabulary / kWide<T>;
  for (int64_t begin = threadIdx.x; begin < packs; begin += kBatch * kThreads) {
    Pack<T, kWide<T>> batch[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      batch[k] = Pack<T, kWide<T>>::of(row + (begin + k * kThreads) * kWide<T>, begin + k * kThreads < packs);
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (begin + k * kThreads < packs) wide(batch[k], begin + k * kThreads);
  }
  const int64_t rest = packs * kWide<T> + threadIdx.x;
  if (rest < vocabulary) single(rest);
}

/// Leaves the whole packs of the row in `copy`, if there is one.
template <class T>
__device__ ExpSum exp_sum(const T* row, int64_t vocabulary, T* copy) {
  ExpSum mine;
  for_row(
      row, vocabulary,
      [&](const Pack<T, kWide<T>>& values, int64_t pack) {
        if (copy != nullptr) values.to(copy + pack * kWide<T>);
        mine = with<kWide<T>>(mine, values);
      },
      [&](int64_t i) {
        const float value[1] = {to_float(row[i])};
        mine = with<1>(mine, value);
      });
  return sum_over_block(mine);
}

/// `copy` as exp_sum() left it, or the row itself. Every thread reads the packs that it wrote.
template <class T>
__device__ void to_gradient(T* row, const T* copy, int64_t vocabulary, float most, float inverse) {
  for_row(
      copy, vocabulary,
      [&](const Pack<T, kWide<T>>& values, int64_t pack) {
        float p[kWide<T>];
#pragma unroll
        for (int i = 0; i < kWide<T>; ++i) p[i] = exp_below(values[i], most) * inverse;
        Pack<T, kWide<T>>::of(p).to(row + pack * kWide<T>);
      },
      [&](int64_t i) { put(row + i, exp_below(to_float(row[i]), most) * inverse); });
}

template <class T>
__device__ void fill_zero(T* row, int64_t vocabulary) {
  const int64_t packs = vocabulary / kWide<T>;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) Pack<T, kWide<T>>::zero().to(row + i * kWide<T>);
  const int64_t rest = packs * kWide<T> + threadIdx.x;
  if (rest < vocabulary) put(row + rest, 0.f);
}

/// kCopied: the row fits into shared memory, and is read once; else the second time comes out of
/// a cache that the other blocks' rows may have filled.
template <class T, bool kCopied>
__global__ void __launch_bounds__(kThreads, kCopied ? 2 : 3) row_kernel(const CrossEntropyRows args) {
  extern __shared__ uint4 memory[];
  const int64_t at = blockIdx.x;
  T* const row = static_cast<T*>(args.logits) + at * args.stride;
  if (args.mask[at] == 0) {
    if (args.gradient) fill_zero(row, args.vocabulary);
    if (threadIdx.x == 0) args.nll[at] = 0.f;
    return;
  }
  const int64_t target = args.targets[at];
  const bool known = target >= 0 && target < args.vocabulary;
  const float chosen = known ? to_float(row[target]) : CUDART_NAN_F;  // before the row becomes its gradient
  T* const copy = kCopied && args.gradient ? reinterpret_cast<T*>(memory) : nullptr;
  ExpSum all = exp_sum(row, args.vocabulary, copy);
  if (!known) all.sum = CUDART_NAN_F;
  if (threadIdx.x == 0) args.nll[at] = logf(all.sum) + (all.most - chosen);
  if (!args.gradient) return;
  const float inverse = 1.f / all.sum;
  to_gradient<T>(row, kCopied ? copy : row, args.vocabulary, all.most, inverse);
  __syncthreads();
  if (threadIdx.x == 0 && known) put(row + target, exp_below(chosen, all.most) * inverse - 1.f);
}

/// One block; thread i adds values i, i + 1024, .., then the threads are added pairwise.
__global__ void __launch_bounds__(1024) sum_kernel(const float* values, int64_t count, float* sum) {
  __shared__ double sums[1024];
  const int thread = threadIdx.x;
  double mine = 0;
  for (int64_t i = thread; i < count; i += 1024) mine += values[i];
  sums[thread] = mine;
  for (int step = 512; step > 0; step /= 2) {
    __syncthreads();
    if (thread < step) sums[thread] += sums[thread + step];
  }
  if (thread == 0) *sum = static_cast<float>(sums[0]);
}

template <class T>
cudaError_t launch(const CrossEntropyRows& args, cudaStream_t stream) {
  constexpr int64_t kMostShared = 227 << 10;  // of a block on compute capability 9.0
  const int64_t row_bytes = args.vocabulary / kWide<T> * 16;
  const bool copied = args.gradient && row_bytes + int64_t{kWarps * sizeof(ExpSum)} <= kMostShared;
  const auto kernel = copied ? row_kernel<T, true> : row_kernel<T, false>;
  const int bytes = copied ? static_cast<int>(row_bytes) : 0;
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(args.rows), kThreads, bytes, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace

cudaError_t cross_entropy_rows(const CrossEntropyRows& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  return args.element == Element::kFloat32 ? launch<float>(args, stream) : launch<bf16>(args, stream);
}

cudaError_t sum_losses(const float* values, int64_t count, float* sum, cudaStream_t stream) {
  sum_kernel<<<1, 1024, 0, stream>>>(values, count, sum);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
