#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/plain_kernels.cuh"

namespace dm::kernels::cuda {
namespace {

int64_t state_elements(const SsdShape& shape) {
  return shape.rows * shape.heads * shape.head_dim * shape.state;
}

dim3 grid_of(const SsdShape& shape) {
  return dim3(static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.rows));
}

}  // namespace

int64_t plain_saved_bytes(const SsdShape& shape) {
  return (shape.length + kPlainInterval - 1) / kPlainInterval * state_elements(shape) *
         int64_t{sizeof(float)};
}

int64_t plain_workspace_bytes(const SsdShape& shape) {
  const int64_t floats = (kPlainInterval + 1) * state_elements(shape) +
                         2 * shape.rows * shape.length * shape.heads * shape.state +
                         2 * shape.rows * shape.heads;
  return floats * int64_t{sizeof(float)};
}

cudaError_t plain_forward(const SsdForward& args, cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  const auto kernel =
      args.in.element == Element::kFloat32 ? plain_forward_kernel<float> : plain_forward_kernel<bf16>;
  const int bytes = static_cast<int>(kPlainWarps * shape.state * int64_t{sizeof(float)});
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<grid_of(shape), kPlainThreads, bytes, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t plain_backward(const SsdBackward& args, cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  PlainWorkspace work;
  work.states = static_cast<float*>(args.workspace);
  work.dstate = work.states + kPlainInterval * state_elements(shape);
  work.db = work.dstate + state_elements(shape);
  work.dc = work.db + shape.rows * shape.length * shape.heads * shape.state;
  work.da = work.dc + shape.rows * shape.length * shape.heads * shape.state;
  work.dd = work.da + shape.rows * shape.heads;
  const auto kernel =
      args.in.element == Element::kFloat32 ? plain_backward_kernel<float> : plain_backward_kernel<bf16>;
  const int bytes = static_cast<int>(3 * shape.head_dim * int64_t{sizeof(float)});
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<grid_of(shape), kPlainThreads, bytes, stream>>>(args, work);
  plain_group_kernel<<<1024, kPlainThreads, 0, stream>>>(args, work);
  return sum_parts({.da_parts = work.da,
                    .dd_parts = work.dd,
                    .da_count = shape.rows,
                    .dd_count = shape.rows,
                    .heads = shape.heads,
                    .fold = 1},
                   args.da, args.dd, stream);
}

cudaError_t plain_passage(const SsdPassage& args, cudaStream_t stream) {
  const auto kernel =
      args.in.element == Element::kFloat32 ? plain_states_kernel<float> : plain_states_kernel<bf16>;
  kernel<<<grid_of(args.in.shape), kPlainThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
