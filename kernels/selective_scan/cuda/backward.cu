#include "kernels/selective_scan/cuda/backward.cuh"

#include "kernels/device/launch.cuh"
#include "kernels/selective_scan/cuda/launch.cuh"

namespace dm::kernels::cuda {
namespace {

template <class Of>
__global__ void __launch_bounds__(kBackwardThreads, Of::kRuns == 1 ? 2 : 1)
    backward_kernel(const SelectiveBackward args, const Segments segments, const Shares shares) {
  extern __shared__ uint4 memory[];
  Backward<Of>(args, segments, shares, *reinterpret_cast<typename Backward<Of>::Shared*>(memory)).run();
}

/// dB and dC from the shares of the group's channel blocks, in their order.
__global__ void __launch_bounds__(256)
    sum_kernel(const SelectiveBackward args, const float* shares, int64_t blocks) {
  const SelectiveShape& shape = args.in.shape;
  const int64_t count = shape.rows * shape.length * 2 * shape.states;
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= count) return;
  const int64_t group = blockIdx.y, each = blocks / shape.groups;
  float sum = 0.f;
#pragma unroll 8
  for (int64_t block = group * each; block < (group + 1) * each; ++block) sum += shares[block * count + i];
  const int64_t token = i / (2 * shape.states), n = i % (2 * shape.states);
  const bool of_c = n >= shape.states;
  write(of_c ? args.dc : args.db, (of_c ? args.in.c : args.in.b).element,
        token * args.dbc_stride + group * args.in.group_stride + n - (of_c ? shape.states : 0), sum);
}

template <class Of>
cudaError_t launch(const SelectiveBackward& args, const Segments& segments, const Shares& shares,
                   cudaStream_t stream) {
  constexpr int kBytes = sizeof(typename Backward<Of>::Shared);
  static_assert(kBytes <= 227 * 1024);
  const cudaError_t error =
      cudaFuncSetAttribute(backward_kernel<Of>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  backward_kernel<Of>
      <<<grid_of(args.in.shape, segments, Backward<Of>::kChannels), kBackwardThreads, kBytes, stream>>>(
          args, segments, shares);
  return cudaGetLastError();
}

int64_t channel_blocks(const SelectiveShape& shape) {
  const int64_t channels = narrow(shape) ? Backward<Narrow>::kChannels : Backward<Wide>::kChannels;
  static_assert(Backward<Wide>::kChannels == Backward<Widest>::kChannels);
  return (shape.channels + channels - 1) / channels;
}

int64_t states_share(const SelectiveShape& shape) {  // floats
  return channel_blocks(shape) * shape.rows * shape.length * 2 * shape.states;
}

}  // namespace

int64_t selective_backward_bytes(const SelectiveShape& shape) {
  const int64_t of_channels =
      shape.rows * cut_segments(shape, nullptr).count * shape.channels * (shape.states + 2);
  return segment_bytes(shape) + (states_share(shape) + of_channels) * int64_t{sizeof(float)};
}

cudaError_t selective_backward(const SelectiveBackward& args, cudaStream_t stream) {
  const SelectiveShape& shape = args.in.shape;
  const Segments segments = cut_segments(shape, args.workspace);
  if (const cudaError_t error = find_segment_gradients(args, segments, stream); error != cudaSuccess)
    return error;
  Shares shares;
  shares.states = static_cast<float*>(args.workspace) + segment_bytes(shape) / int64_t{sizeof(float)};
  shares.channels = shares.states + states_share(shape);
  const cudaError_t error =
      for_lanes(shape, [&]<class Of>() { return launch<Of>(args, segments, shares, stream); });
  if (error != cudaSuccess) return error;
  const int64_t count = shape.rows * shape.length * 2 * shape.states;
  const dim3 grid(static_cast<unsigned>((count + 255) / 256), static_cast<unsigned>(shape.groups));
  sum_kernel<<<grid, 256, 0, stream>>>(args, shares.states, channel_blocks(shape));
  return sum_columns(
      shares.channels, shape.rows * segments.count,
      {{args.da, shape.channels * shape.states}, {args.dd, shape.channels}, {args.ddt_bias, shape.channels}},
      stream);
}

}  // namespace dm::kernels::cuda
