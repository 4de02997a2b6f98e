#include "kernels/ssd/cuda/state_kernel.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_state_walk(const SsdInputs& in, const FastSaved& saved, const WalkSegments& segments,
                            float* state, float* decay, cudaStream_t stream) {
  return launch_state_walk<true>(passage_walk(in.shape, segments, in.initial_state, state, decay),
                                 passage_cut(in.shape), saved.table, in.b, in.b_stride, in.x, in.x_stride,
                                 stream);
}

}  // namespace dm::kernels::cuda
