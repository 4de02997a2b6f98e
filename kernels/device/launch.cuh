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

/// Starts a kernel that may run ahead of the work queued before it, up to its wait_for_earlier_kernels()
/// (early.cuh): what it reads before that must not be written by that work.
template <class Kernel, class Args>
cudaError_t launch_early(Kernel kernel, dim3 blocks, int threads, int64_t shared_bytes, cudaStream_t stream,
                         const Args& args) {
  const auto shared = static_cast<size_t>(shared_bytes);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, args);
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
