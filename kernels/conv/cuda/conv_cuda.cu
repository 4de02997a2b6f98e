#include "kernels/conv/cuda/conv_paths.cuh"
#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {

bool conv_is_fast(const ConvInputs& in) {
  const MixerColumns& c = in.columns;
  return in.width == 4 && in.projected_stride % 8 == 0 && c.branch_stride % 8 == 0 && c.x_offset % 8 == 0 &&
         c.inner % 8 == 0 && c.group_width % 8 == 0 && in_packs(in.projected) && in_packs(in.initial) &&
         in_packs(in.weight) && in_packs(in.bias);
}

int64_t conv_workspace_bytes(const ConvInputs& in) {
  // Of either path: what the alignment of the gradients will be is not known yet.
  return std::max(conv_fast_parts(in), conv_plain_parts(in)) * conv_sums(in) * int64_t{sizeof(float)};
}

cudaError_t conv_forward(const ConvForward& args, cudaStream_t stream) {
  if (args.in.rows * args.in.length == 0) return cudaSuccess;
  const bool fast = conv_is_fast(args.in) && in_packs(args.xbc);
  return fast ? conv_fast_forward(args, stream) : conv_plain_forward(args, stream);
}

cudaError_t conv_backward(const ConvBackward& args, cudaStream_t stream) {
  const ConvInputs& in = args.in;
  int64_t parts = 0;
  cudaError_t error = cudaSuccess;
  if (in.rows * in.length > 0) {
    const bool fast =
        conv_is_fast(in) && in_packs(args.dxbc) && in_packs(args.dprojected) && in_packs(args.dinitial);
    parts = fast ? conv_fast_parts(in) : conv_plain_parts(in);
    error = fast ? conv_fast_backward(args, stream) : conv_plain_backward(args, stream);
  }
  if (error != cudaSuccess) return error;
  return sum_columns(static_cast<const float*>(args.workspace), parts,
                     {{args.dweight, conv_channels(in) * in.width},
                      {args.dbias, conv_channels(in)},
                      {args.ddt_bias, conv_heads(in)}},
                     stream);
}

}  // namespace dm::kernels::cuda
