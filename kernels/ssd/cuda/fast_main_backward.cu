#include "kernels/ssd/cuda/backward_kernel.cuh"
#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/tensor_map.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_main_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                               cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  BackwardMaps maps;
  const auto map = [&](CUtensorMap& to, const void* base, int64_t columns, int64_t stride, int box) {
    return make_tensor_map(to, base, shape.rows, shape.length, columns, stride, box);
  };
  const int64_t width = shape.heads * shape.head_dim, columns = shape.groups * shape.state;
  const int box = shape.head_dim == 32 ? 32 : 64;
  for (const cudaError_t error :
       {map(maps.x, args.in.x, width, args.in.x_stride, box),
        map(maps.dy, args.dy, width, args.dy_stride, box), map(maps.dx, args.dx, width, args.dx_stride, box),
        map(maps.b, args.in.b, columns, args.in.b_stride, 64),
        map(maps.c, args.in.c, columns, args.in.c_stride, 64)})
    if (error != cudaSuccess) return error;
  cudaError_t error = cudaErrorInvalidValue;
  for_fast_shape(shape, [&]<int P, int N>() {
    const auto kernel = ssd_backward_kernel<P, N>;
    constexpr int kBytes = BackwardLayout<P, N>::kBytes;
    static_assert(kBytes <= 227 * 1024);
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return;
    const dim3 grid(static_cast<unsigned>(tiles_of(shape.length)), static_cast<unsigned>(shape.groups),
                    static_cast<unsigned>(shape.rows));
    kernel<<<grid, kBackwardThreads, kBytes, stream>>>(args, saved.table, saved.states, work.dstates,
                                                       work.da_parts, work.dd_parts, maps);
    error = cudaGetLastError();
  });
  return error;
}

}  // namespace dm::kernels::cuda
