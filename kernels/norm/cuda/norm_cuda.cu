#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/norm/cuda/norm_paths.cuh"

namespace dm::kernels::cuda {

int64_t norm_workspace_bytes(const NormInputs& in) {
  // Of either path: what the alignment of the gradients will be is not known yet.
  const int64_t columns = in.bias ? 2 * in.width : in.width;
  return std::max(norm_fast_parts(in), norm_plain_parts(in)) * columns * int64_t{sizeof(float)};
}

cudaError_t norm_forward(const NormForward& args, cudaStream_t stream) {
  if (args.in.rows == 0) return cudaSuccess;
  const bool fast = norm_is_fast(args.in) && in_packs(args.y);
  return fast ? norm_fast_forward(args, stream) : norm_plain_forward(args, stream);
}

cudaError_t norm_backward(const NormBackward& args, cudaStream_t stream) {
  const NormInputs& in = args.in;
  int64_t parts = 0;
  cudaError_t error = cudaSuccess;
  if (in.rows > 0) {
    const bool fast = norm_is_fast(in) && in_packs(args.dy) && args.dy_stride % 8 == 0 && in_packs(args.dx);
    parts = fast ? norm_fast_parts(in) : norm_plain_parts(in);
    error = fast ? norm_fast_backward(args, stream) : norm_plain_backward(args, stream);
  }
  if (error != cudaSuccess) return error;
  return sum_columns(static_cast<const float*>(args.workspace), parts,
                     {{args.dweight, in.width}, {args.dbias, in.bias ? in.width : 0}}, stream);
}

}  // namespace dm::kernels::cuda
