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

/// wide(pack, its place) for this thread's share of a row, kBatch loads in flight; single(place) for what is
/// left at the row's end.
template <class T, class Wide, class Single>
__device__ void for_row(T* row, int64_t vocabulary, const Wide& wide, const Single& single) {
  const int64_t packs = vocabulary / kWide<T>;
  for (int64_t begin = threadIdx.x; begin < packs; begin += kBatch * kThreads) {
    Pack<T, kWide<T>> batch[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      batch[k] = Pack<T, kWide<T>>::of(row + (begin + k * kThreads) * kWide<T>, begin + k * kThreads < packs);
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (begin + k * kThreads < packs) wide(batch[k], row + (begin + k * kThreads) * kWide<T>);
  }
  const int64_t rest = packs * kWide<T> + threadIdx.x;
  if (rest < vocabulary) single(row + rest);
}

template <class T>
__device__ ExpSum exp_sum(T* row, int64_t vocabulary) {
  ExpSum mine;
  for_row(
      row, vocabulary, [&](const Pack<T, kWide<T>>& values, T*) { mine = with<kWide<T>>(mine, values); },
      [&](T* at) {
        const float value[1] = {to_float(*at)};
        mine = with<1>(mine, value);
      });
  return sum_over_block(mine);
}

template <class T>
__device__ void to_gradient(T* row, int64_t vocabulary, float most, float inverse) {
  for_row(
      row, vocabulary,
      [&](const Pack<T, kWide<T>>& values, T* at) {
        float p[kWide<T>];
#pragma unroll
        for (int i = 0; i < kWide<T>; ++i) p[i] = exp_below(values[i], most) * inverse;
        Pack<T, kWide<T>>::of(p).to(at);
      },
      [&](T* at) { put(at, exp_below(to_float(*at), most) * inverse); });
}

template <class T>
__device__ void fill_zero(T* row, int64_t vocabulary) {
  const int64_t packs = vocabulary / kWide<T>;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) Pack<T, kWide<T>>::zero().to(row + i * kWide<T>);
  const int64_t rest = packs * kWide<T> + threadIdx.x;
  if (rest < vocabulary) put(row + rest, 0.f);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) row_kernel(const CrossEntropyRows args) {
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
  ExpSum all = exp_sum(row, args.vocabulary);
  if (!known) all.sum = CUDART_NAN_F;
  if (threadIdx.x == 0) args.nll[at] = logf(all.sum) + (all.most - chosen);
  if (!args.gradient) return;
  const float inverse = 1.f / all.sum;
  to_gradient(row, args.vocabulary, all.most, inverse);
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

}  // namespace

cudaError_t cross_entropy_rows(const CrossEntropyRows& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  const auto kernel = args.element == Element::kFloat32 ? row_kernel<float> : row_kernel<bf16>;
  kernel<<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t sum_losses(const float* values, int64_t count, float* sum, cudaStream_t stream) {
  sum_kernel<<<1, 1024, 0, stream>>>(values, count, sum);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
