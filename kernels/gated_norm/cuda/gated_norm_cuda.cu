#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/gated_norm/cuda/gated_norm_paths.cuh"

namespace dm::kernels::cuda {
int64_t gated_norm_workspace_bytes(const GatedNormInputs& in) {
  // Of either path: what the alignment of the gradients will be is not known yet.
  const int64_t parts = std::max(gated_norm_fast_parts(in), gated_norm_plain_parts(in));
  return parts * gated_norm_sums(in) * int64_t{sizeof(float)};
}

cudaError_t gated_norm_forward(const GatedNormForward& args, cudaStream_t stream) {
  if (args.in.tokens == 0) return cudaSuccess;
  const bool fast = gated_norm_is_fast(args.in) && in_packs(args.out);
  return fast ? gated_norm_fast_forward(args, stream) : gated_norm_plain_forward(args, stream);
}

cudaError_t gated_norm_backward(const GatedNormBackward& args, cudaStream_t stream) {
  const GatedNormInputs& in = args.in;
  int64_t parts = 0;
  cudaError_t error = cudaSuccess;
  if (in.tokens > 0) {
    const bool fast = gated_norm_is_fast(in) && in_packs(args.dout) && in_packs(args.dy) && in_packs(args.dz);
    parts = fast ? gated_norm_fast_parts(in) : gated_norm_plain_parts(in);
    error = fast ? gated_norm_fast_backward(args, stream) : gated_norm_plain_backward(args, stream);
  }
  if (error != cudaSuccess) return error;
  return sum_columns(
      static_cast<const float*>(args.workspace), parts,
      {{args.dweight, gated_norm_width(in)}, {args.dscale, in.scale_by_token ? 0 : in.sections}}, stream);
}

}  // namespace dm::kernels::cuda
