#include "kernels/conv/cuda/step.cuh"

#include <cuda_runtime.h>

#include "kernels/device/rows.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 128;

/// A thread has a channel of a row.
__global__ void __launch_bounds__(kThreads) conv_step_kernel(const ConvStep args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.rows * args.channels) return;
  const int64_t row = i / args.channels, channel = i % args.channels, before = args.width - 1;
  const Rows window{args.window, args.channels, args.window_element};
  const float* const weight = args.weight + channel * args.width;
  const float x = read(args.x, row, channel);
  float u = args.bias[channel];
  for (int64_t k = 0; k < before; ++k) {
    const float value = read(window, row * before + k, channel);
    u += weight[k] * value;
    if (k > 0)
      write(args.window, args.window_element, (row * before + k - 1) * args.channels + channel, value);
  }
  u += weight[before] * x;
  if (before > 0)
    write(args.window, args.window_element, (row * before + before - 1) * args.channels + channel, x);
  write(args.y, args.x.element, i, u / (1.f + expf(-u)));
}

}  // namespace

cudaError_t conv_step(const ConvStep& args, cudaStream_t stream) {
  if (args.rows * args.channels == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((args.rows * args.channels + kThreads - 1) / kThreads);
  conv_step_kernel<<<blocks, kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
