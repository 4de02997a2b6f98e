#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/state_kernel.cuh"
#include "kernels/ssd/cuda/tensor_map.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_state_backward(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                                cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  StateMaps maps;
  cudaError_t error = make_tensor_map(maps.c, args.in.c, shape.rows, shape.length, shape.groups * shape.state,
                                      args.in.c_stride, 64);
  if (error != cudaSuccess) return error;
  error = make_tensor_map(maps.dy, args.dy, shape.rows, shape.length, shape.heads * shape.head_dim,
                          args.dy_stride, shape.head_dim == 32 ? 32 : 64);
  if (error != cudaSuccess) return error;
  return for_walked_heads(shape, [&]<int P, int N, int kHeads>() {
    const auto kernel = ssd_state_kernel<P, N, kHeads>;
    constexpr int kBytes = StateLayout<P, N, kHeads>::kBytes;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
    const dim3 grid(static_cast<unsigned>(shape.heads / kHeads), static_cast<unsigned>(shape.rows));
    kernel<<<grid, kHeads * kWarpgroup, kBytes, stream>>>(args, saved.table, work.dstates, maps);
    return cudaGetLastError();
  });
}

}  // namespace dm::kernels::cuda
