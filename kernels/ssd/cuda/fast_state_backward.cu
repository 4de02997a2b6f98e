#include "kernels/ssd/cuda/state_kernel.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_state_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                                const WalkCut& cut, const float* starts, cudaStream_t stream) {
  const StateWalk walk{.shape = folded(args.in.shape),
                       .start = starts,
                       .end = cut.segments == 1 ? args.dinitial_state : nullptr,
                       .decay = nullptr,
                       .fold = 1,
                       .images = work.dstates};
  return launch_state_walk<false>(walk, cut, saved.table, args.in.c, args.in.c_stride, args.dy,
                                  args.dy_stride, stream);
}

cudaError_t fast_gradient_walk(const SsdInputs& in, const void* dy, int64_t dy_stride,
                               const float* dfinal_state, const FastSaved& saved,
                               const WalkSegments& segments, float* state, float* decay,
                               cudaStream_t stream) {
  return launch_state_walk<false>(passage_walk(in.shape, segments, dfinal_state, state, decay),
                                  passage_cut(in.shape), saved.table, in.c, in.c_stride, dy, dy_stride,
                                  stream);
}

}  // namespace dm::kernels::cuda
