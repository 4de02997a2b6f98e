// A build without CUDA.

#include "core/error.h"
#include "kernels/device/device.h"
#include "kernels/device/gpu.h"
#include "kernels/device/profile.h"

namespace dm::kernels {

void use_gpu(int64_t) {
  DM_FAIL(ExitCode::usage, "no GPU can be used: {}; configure with -D DM_CUDA=ON, or give --device cpu",
          cuda_status());
}
void wait_for_gpu() {}
GpuMemory gpu_memory() { return {}; }
void reset_gpu_peak() {}

std::vector<KernelTime> profile_kernels(const std::function<void()>& work) {
  work();
  return {};
}

struct SideCopies::Impl {};
SideCopies::SideCopies() = default;
SideCopies::~SideCopies() = default;
void SideCopies::start(void*, const void*, int64_t) {
  DM_FAIL(ExitCode::internal, "a copy from a GPU in a build without CUDA");
}
void SideCopies::go_first() {}
void SideCopies::wait() {}

struct Graph::Impl {};
Graph::Graph(bool) {}
Graph::~Graph() = default;
void Graph::run(const std::function<void()>& work) { work(); }
int64_t Graph::nodes() const { return 0; }

}  // namespace dm::kernels
