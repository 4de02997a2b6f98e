#pragma once
// Timing of kernels: device memory with random contents, and graph replays between events.

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dm::kernels::test {

/// Ends the program at an error.
void must(cudaError_t error, const char* what);

/// Memory that lives as long as the pool, with values that no kernel can take a short cut for.
class DevicePool {
 public:
  ~DevicePool();
  void* bf16(int64_t count);    // normal draws / 2
  float* fp32(int64_t count);   // the same
  float* steps(int64_t count);  // in (0, 0.1)
  int32_t* documents(int64_t rows, int64_t length, int64_t each);
  void* bytes(int64_t count);  // as they come

 private:
  void* filled(const void* block, int64_t block_bytes, int64_t bytes);
  std::vector<void*> memory_;
};

/// Median time in µs of one of `calls` (each on other memory, so that none finds its inputs in the cache),
/// out of `repeats` replays of a graph with all of them.
double median_us(const std::vector<std::function<cudaError_t(cudaStream_t)>>& calls, int repeats = 50);

/// {"op": .., "shape": .., "us": .., "gb_per_s": .., "percent_of_floor": ..}; the floor is `bytes` at
/// 3.0 TB/s.
void print_time(const std::string& op, const std::string& shape, double us, double bytes);

}  // namespace dm::kernels::test
