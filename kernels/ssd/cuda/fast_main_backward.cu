#include "kernels/ssd/cuda/backward_kernel.cuh"
#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/tensor_map.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_main_backward(const SsdBackward& given, const FastSaved& saved, const FastWorkspace& work,
                               cudaStream_t stream) {
  SsdBackward args = given;
  const SsdShape shape = folded(given.in.shape);
  BackwardMaps maps;
  for (const cudaError_t error : {make_channel_map(maps.x, args.in.x, shape, args.in.x_stride),
                                  make_channel_map(maps.dy, args.dy, shape, args.dy_stride),
                                  make_channel_map(maps.dx, args.dx, shape, args.dx_stride),
                                  make_state_map(maps.b, args.in.b, shape, args.in.b_stride),
                                  make_state_map(maps.c, args.in.c, shape, args.in.c_stride)})
    if (error != cudaSuccess) return error;
  cudaError_t error = cudaSuccess;
  for (int64_t i = 0; i < slices_of(shape) && error == cudaSuccess; ++i) {
    const StateSlice slice = slice_at(shape, i);
    args.in = saved.table.inputs(given.in, slice);
    const int64_t images = images_before(shape, slice), parts = i * FastWorkspace::parts(shape);
    if (work.ddt_parts != nullptr) args.ddt = work.ddt_parts + i * shape.rows * shape.length * shape.heads;
    for_fast_kernel(shape, slice, [&]<int P, int N>() {
      const auto kernel = ssd_backward_kernel<P, N>;
      constexpr int kBytes = BackwardLayout<P, N>::kBytes;
      static_assert(kBytes <= 227 * 1024);
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      if (error != cudaSuccess) return;
      const dim3 grid(static_cast<unsigned>(tiles_of(shape.length)), static_cast<unsigned>(shape.groups),
                      static_cast<unsigned>(shape.rows));
      kernel<<<grid, kBackwardThreads, kBytes, stream>>>(args, slice, saved.table, saved.states + images,
                                                         work.dstates + images, work.da_parts + parts,
                                                         work.dd_parts + parts, maps);
      error = cudaGetLastError();
    });
  }
  return error;
}

}  // namespace dm::kernels::cuda
