// Apart from the shim: cudaGraphLaunch counts as device code too where nvcc sees it, which must not launch a
// kernel.

#include <cuda_runtime_api.h>

namespace {
__global__ void write_to_16() { *reinterpret_cast<volatile int*>(16) = 1; }
}  // namespace

void write_nowhere(cudaStream_t stream) { write_to_16<<<1, 1, 0, stream>>>(); }
