#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/forward_kernel.cuh"
#include "kernels/ssd/cuda/tensor_map.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_forward(const SsdForward& given, const FastSaved& saved, const WalkCut& cut,
                         const float* starts, cudaStream_t stream) {
  SsdForward args = given;
  const SsdShape shape = folded(given.in.shape);
  ForwardMaps maps;
  for (const cudaError_t error : {make_channel_map(maps.x, args.in.x, shape, args.in.x_stride),
                                  make_channel_map(maps.y, args.y, shape, args.y_stride),
                                  make_state_map(maps.b, args.in.b, shape, args.in.b_stride),
                                  make_state_map(maps.c, args.in.c, shape, args.in.c_stride)})
    if (error != cudaSuccess) return error;
  cudaError_t error = cudaSuccess;
  for (int64_t i = 0; i < slices_of(shape) && error == cudaSuccess; ++i) {
    const StateSlice slice = slice_at(shape, i);
    args.in = saved.table.inputs(given.in, slice);
    char* const states = args.save_states ? saved.states + images_before(shape, slice) : nullptr;
    for_heads(shape, slice, cut.heads, [&]<int P, int N, int kHeads>() {
      const auto kernel = ssd_forward_kernel<P, N, kHeads>;
      constexpr int kBytes = ForwardLayout<P, N, kHeads>::kBytes;
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      if (error != cudaSuccess) return;
      const dim3 grid(static_cast<unsigned>(shape.heads / kHeads), static_cast<unsigned>(shape.rows),
                      static_cast<unsigned>(cut.segments));
      kernel<<<grid, kHeads * kWarpgroup, kBytes, stream>>>(args, slice, saved.table, states, starts, maps);
      error = cudaGetLastError();
    });
  }
  return error;
}

}  // namespace dm::kernels::cuda
