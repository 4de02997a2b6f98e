#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/forward_kernel.cuh"
#include "kernels/ssd/cuda/tensor_map.cuh"

namespace dm::kernels::cuda {

cudaError_t fast_forward(const SsdForward& args, const FastSaved& saved, const WalkCut& cut,
                         const float* starts, cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  ForwardMaps maps;
  const auto map = [&](CUtensorMap& to, const void* base, int64_t columns, int64_t stride, int box) {
    return make_tensor_map(to, base, shape.rows, shape.length, columns, stride, box);
  };
  const int64_t width = shape.heads * shape.head_dim, columns = shape.groups * shape.state;
  const int box = shape.head_dim == 32 ? 32 : 64;
  for (const cudaError_t error :
       {map(maps.x, args.in.x, width, args.in.x_stride, box), map(maps.y, args.y, width, args.y_stride, box),
        map(maps.b, args.in.b, columns, args.in.b_stride, 64),
        map(maps.c, args.in.c, columns, args.in.c_stride, 64)})
    if (error != cudaSuccess) return error;
  return for_heads(shape, cut.heads, [&]<int P, int N, int kHeads>() {
    const auto kernel = ssd_forward_kernel<P, N, kHeads>;
    constexpr int kBytes = ForwardLayout<P, N, kHeads>::kBytes;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
    const dim3 grid(static_cast<unsigned>(shape.heads / kHeads), static_cast<unsigned>(shape.rows),
                    static_cast<unsigned>(cut.segments));
    kernel<<<grid, kHeads * kWarpgroup, kBytes, stream>>>(
        args, saved.table, args.save_states ? saved.states : nullptr, starts, maps);
    return cudaGetLastError();
  });
}

}  // namespace dm::kernels::cuda
