#include "kernels/ssd/cuda/fast.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// A thread has one element of the states.
__global__ void __launch_bounds__(kThreads)
    ssd_join_kernel(const WalkSegments segments, bool forward, bool chain, const float* start, int64_t heads,
                    int64_t head_elements, float* state, float* decay) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x, elements = heads * head_elements;
  if (at >= elements) return;
  const int64_t head = at / head_elements;  // of all rows
  float joined = start == nullptr ? 0.f : start[at], through = 1.f;
  for (int step = 0; step < segments.count; ++step) {
    const int segment = forward ? step : segments.count - 1 - step;
    float& here = segments.states[segment * elements + at];
    const float found = here, carried = segments.decays[segment * heads + head];
    if (chain) here = joined;
    joined = carried * joined + found;
    through *= carried;
  }
  if (state != nullptr) state[at] = joined;
  if (decay != nullptr && at % head_elements == 0) decay[head] = through;
}

}  // namespace

cudaError_t join_segments(const SsdShape& shape, const WalkSegments& segments, bool forward, bool chain,
                          const float* start, float* state, float* decay, cudaStream_t stream) {
  const int64_t heads = shape.rows * shape.heads, head_elements = shape.head_dim * shape.state;
  const auto blocks = static_cast<unsigned>((heads * head_elements + kThreads - 1) / kThreads);
  ssd_join_kernel<<<blocks, kThreads, 0, stream>>>(segments, forward, chain, start, heads, head_elements,
                                                   state, decay);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
