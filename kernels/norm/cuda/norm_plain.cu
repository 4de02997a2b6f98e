// Every shape: a thread block walks over rows and over a row's channels. It sums dweight and dbias in its row
// of the workspace, where no other block writes.

#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/sums.cuh"
#include "kernels/norm/cuda/norm_paths.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostParts = 264;

/// The mean of value(i) over a row, by all threads.
template <class Value>
__device__ float mean_over(int64_t width, BlockSlots (&slots)[2], int& turn, const Value& value) {
  float sum = 0.f;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) sum += value(i);
  turn ^= 1;
  return block_sum(sum, slots[turn]) / static_cast<float>(width);
}

template <class X, class Y>
__global__ void __launch_bounds__(kThreads) norm_plain_forward_kernel(const NormForward args) {
  __shared__ BlockSlots slots[2];
  const NormInputs& in = args.in;
  int turn = 0;
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x) {
    const X* const x = static_cast<const X*>(in.x) + row * in.x_stride;
    Y* const y = static_cast<Y*>(args.y) + row * in.width;
    const float mean =
        in.bias ? mean_over(in.width, slots, turn, [&](int64_t i) { return to_float(x[i]); }) : 0.f;
    const float squares = mean_over(in.width, slots, turn, [&](int64_t i) {
      const float v = to_float(x[i]) - mean;
      return v * v;
    });
    const float r = rsqrtf(squares + in.eps);
    if (threadIdx.x == 0) {
      if (in.bias && args.mean) args.mean[row] = mean;
      if (args.root) args.root[row] = r;
    }
    for (int64_t i = threadIdx.x; i < in.width; i += kThreads)
      put(y + i, (to_float(x[i]) - mean) * r * in.weight[i] + (in.bias ? in.bias[i] : 0.f));
  }
}

template <class X, class Y>
__global__ void __launch_bounds__(kThreads) norm_plain_backward_kernel(const NormBackward args) {
  __shared__ BlockSlots slots[2];
  const NormInputs& in = args.in;
  const int64_t columns = in.bias ? 2 * in.width : in.width;
  float* const sums = static_cast<float*>(args.workspace) + blockIdx.x * columns;
  for (int64_t i = threadIdx.x; i < in.width; i += kThreads) {
    sums[i] = 0.f;
    if (in.bias) sums[in.width + i] = 0.f;
  }
  int turn = 0;
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x) {
    const X* const x = static_cast<const X*>(in.x) + row * in.x_stride;
    const Y* const dy = static_cast<const Y*>(args.dy) + row * args.dy_stride;
    X* const dx = static_cast<X*>(args.dx) + row * in.width;
    const float mean = in.bias ? args.mean[row] : 0.f, r = args.root[row];
    const auto n = [&](int64_t i) { return (to_float(x[i]) - mean) * r; };
    const auto dn = [&](int64_t i) { return to_float(dy[i]) * in.weight[i]; };
    const float along = mean_over(in.width, slots, turn, [&](int64_t i) { return n(i) * dn(i); });
    const float shift = in.bias ? mean_over(in.width, slots, turn, dn) : 0.f;
    for (int64_t i = threadIdx.x; i < in.width; i += kThreads) {
      put(dx + i, r * (dn(i) - shift - n(i) * along));
      sums[i] += n(i) * to_float(dy[i]);
      if (in.bias) sums[in.width + i] += to_float(dy[i]);
    }
  }
}

}  // namespace

int64_t norm_plain_parts(const NormInputs& in) { return std::min(in.rows, kMostParts); }

cudaError_t norm_plain_forward(const NormForward& args, cudaStream_t stream) {
  return for_elements(args.in.x_element, args.in.y_element, [&](auto x, auto y) {
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(args.in.rows, 1 << 16));
    norm_plain_forward_kernel<decltype(x), decltype(y)><<<blocks, kThreads, 0, stream>>>(args);
    return cudaGetLastError();
  });
}

cudaError_t norm_plain_backward(const NormBackward& args, cudaStream_t stream) {
  return for_elements(args.in.x_element, args.in.y_element, [&](auto x, auto y) {
    const auto blocks = static_cast<unsigned>(norm_plain_parts(args.in));
    norm_plain_backward_kernel<decltype(x), decltype(y)><<<blocks, kThreads, 0, stream>>>(args);
    return cudaGetLastError();
  });
}

}  // namespace dm::kernels::cuda
