// Preloaded into the program by gpu_fault_test. Where the words of DM_TEST_GPU_FAULT, "KIND RANK LAUNCH",
// name this rank, its LAUNCH-th launch of a graph brings on, KIND being
//   access  a kernel that writes where no memory is, before the graph;
//   nccl    an error that NCCL reports of every communicator asked from then on.

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Fault {
  char kind[16] = "";
  int launch = 0;

  Fault() {
    const char* words = std::getenv("DM_TEST_GPU_FAULT");
    const char* world_rank = std::getenv("OMPI_COMM_WORLD_RANK");
    int rank = 0;
    if (words == nullptr || std::sscanf(words, "%15s %d %d", kind, &rank, &launch) != 3 ||
        rank != (world_rank == nullptr ? 0 : std::atoi(world_rank)))
      kind[0] = '\0';
  }
  bool is(const char* name) const { return std::strcmp(kind, name) == 0; }
};

const Fault& fault() {
  static const Fault the_fault;
  return the_fault;
}

std::atomic<int> launches{0};

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

void write_nowhere(cudaStream_t stream);  // write_nowhere.cu

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  static const auto launch = next<cudaError_t (*)(cudaGraphExec_t, cudaStream_t)>("cudaGraphLaunch");
  if (++launches == fault().launch && fault().is("access")) write_nowhere(stream);
  return launch(graph, stream);
}

extern "C" ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  static const auto ask = next<ncclResult_t (*)(ncclComm_t, ncclResult_t*)>("ncclCommGetAsyncError");
  const ncclResult_t result = ask(comm, state);
  if (launches >= fault().launch && fault().is("nccl")) *state = ncclRemoteError;
  return result;
}
