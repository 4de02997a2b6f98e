#pragma once
// How many thread blocks to start, and the second stage of sums over them.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

namespace dm::kernels::cuda {

/// As many blocks as run at the same time on the whole device: the grid of a kernel whose blocks walk over
/// the work. 0 where the device cannot be asked.
template <class Kernel>
int64_t resident_blocks(Kernel kernel, int threads) {
  int device = 0, multiprocessors = 0, each = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, 0) != cudaSuccess)
    return 0;
  return int64_t{multiprocessors} * each;
}

/// Of the current device; 1 where it cannot be asked.
inline unsigned multiprocessors() {
  int device = 0, count = 1;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
    return 1;
  return static_cast<unsigned>(count);
}

/// Shared memory that a block can ask for on Hopper.
constexpr int64_t kMostSharedBytes = 227 << 10;

/// Threads that hold `width` channels, `each` of them a thread, in whole warps.
inline int threads_for(int64_t width, int each) {
  return static_cast<int>((width + each * 32 - 1) / (each * 32) * 32);
}

struct ColumnRange {
  float* to;  // null: these columns are not wanted
  int64_t count;
};

/// Adds parts [rows, columns] over the rows in a fixed order; at most three consecutive ranges of columns go
/// to different places.
cudaError_t sum_columns(const float* parts, int64_t rows, std::initializer_list<ColumnRange> ranges,
                        cudaStream_t stream);

}  // namespace dm::kernels::cuda
