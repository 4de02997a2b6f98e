#pragma once
// Which kernels a piece of work runs on the GPU, and for how long.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dm::kernels {

struct KernelTime {
  std::string name;
  int64_t calls;
  double microseconds;  // of all calls together
};

/// Runs `work` under the profiler of LibTorch and waits for the GPU. Longest first; empty without a GPU.
std::vector<KernelTime> profile_kernels(const std::function<void()>& work);

}  // namespace dm::kernels
