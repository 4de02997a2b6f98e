// Preloaded by gpu_fault_test: from its DM_TEST_FAILING_LAUNCH-th call on, launching a graph fails as it does
// after an error of the GPU's.

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  static std::atomic<int> calls{0};
  static const char* const failing = std::getenv("DM_TEST_FAILING_LAUNCH");
  if (failing != nullptr && ++calls >= std::atoi(failing)) return cudaErrorLaunchFailure;
  using Launch = cudaError_t (*)(cudaGraphExec_t, cudaStream_t);
  static const auto launch = reinterpret_cast<Launch>(dlsym(RTLD_NEXT, "cudaGraphLaunch"));
  return launch(graph, stream);
}
