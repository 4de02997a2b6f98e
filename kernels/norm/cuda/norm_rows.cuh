#pragma once
// Rows in registers, as the fast kernels of the norms hold them: a thread block walks over rows and has the
// next one on its way; a thread has eight channels, the same of every row.

#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/sums.cuh"

namespace dm::kernels::cuda {

constexpr int kRowVec = 8;
// Kernels for up to 640 threads may have 96 registers each: more in flight than with 128 on rows of 768,
// nothing lost on longer ones. Wider rows have kernels of their own, with 64 and a few
// in local memory.
constexpr int kUsualRowThreads = 640, kMostRowThreads = 1024;

template <class T>
using RowPack = Pack<T, kRowVec>;

/// Eight channels of a row; zeros for threads behind D, behind the last row, and of a null tensor.
template <class T>
__device__ RowPack<T> load_row(const void* rows, int64_t row, int64_t stride, bool present) {
  return RowPack<T>::of(static_cast<const T*>(rows) + row * stride + threadIdx.x * kRowVec,
                        present && rows != nullptr);
}
template <class T>
__device__ void store_row(void* rows, int64_t row, int64_t width, const float (&v)[kRowVec]) {
  RowPack<T>::of(v).to(static_cast<T*>(rows) + row * width + threadIdx.x * kRowVec);
}

/// Leaves a thread's sums over rows at its channels of `columns`.
__device__ inline void store_sums(float* columns, const float (&v)[kRowVec]) {
  RowPack<float>::of(v).to(columns + threadIdx.x * kRowVec);
}

inline bool row_fits(int64_t width) { return width % kRowVec == 0 && width <= kRowVec * kMostRowThreads; }
inline int row_threads(int64_t width) { return threads_for(width, kRowVec); }

/// Calls `call` with the most threads that kernels for rows of this width are compiled for.
template <class Call>
auto for_row_threads(int64_t width, const Call& call) {
  return row_threads(width) <= kUsualRowThreads ? call.template operator()<kUsualRowThreads>()
                                                : call.template operator()<kMostRowThreads>();
}

/// Blocks for a kernel that walks over rows.
template <class Kernel>
int64_t row_blocks(Kernel kernel, int64_t rows, int64_t width) {
  return std::min(rows, std::max<int64_t>(resident_blocks(kernel, row_threads(width)), 1));
}

template <class Kernel, class Args>
cudaError_t launch_over_rows(Kernel kernel, const Args& args, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(row_blocks(kernel, args.in.rows, args.in.width));
  kernel<<<blocks, row_threads(args.in.width), 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
