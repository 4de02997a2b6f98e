#include "kernels/norm/cuda/norm_paths.cuh"
#include "kernels/norm/cuda/norm_rows.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kVec = kRowVec;

template <class X, class Y, bool kLayer, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) norm_forward_kernel(const NormForward args) {
  __shared__ BlockSlots slots[2];
  const NormInputs& in = args.in;
  const bool active = threadIdx.x * kVec < in.width;
  const float mean_of = 1.f / static_cast<float>(in.width);
  const auto weight = load_row<float>(in.weight, 0, 0, active), bias = load_row<float>(in.bias, 0, 0, active);
  auto next = load_row<X>(in.x, blockIdx.x, in.x_stride, active);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x) {
    const auto now = next;
    next = load_row<X>(in.x, row + gridDim.x, in.x_stride, active && row + gridDim.x < in.rows);
    float v[kVec], sum = 0.f, squares = 0.f, mean = 0.f;
    if constexpr (kLayer) {
#pragma unroll
      for (int i = 0; i < kVec; ++i) sum += now[i];
      mean = block_sum(sum, slots[turn]) * mean_of;
      turn ^= 1;
    }
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      v[i] = active ? now[i] - mean : 0.f;
      squares += v[i] * v[i];
    }
    const float r = rsqrtf(block_sum(squares, slots[turn]) * mean_of + in.eps);
    turn ^= 1;
    if (threadIdx.x == 0) {
      if (kLayer && args.mean) args.mean[row] = mean;
      if (args.root) args.root[row] = r;
    }
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[i] = v[i] * r * weight[i] + (kLayer ? bias[i] : 0.f);
    if (active) store_row<Y>(args.y, row, in.width, v);
  }
}

// With n = (x - mean) r and dn = weight dy: dx = r (dn - mean(dn) - n mean(dn n)), without mean(dn) for
// rms_norm.
template <class X, class Y, bool kLayer, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) norm_backward_kernel(const NormBackward args) {
  __shared__ BlockSlots along_slots[2], shift_slots[2];
  const NormInputs& in = args.in;
  const bool active = threadIdx.x * kVec < in.width;
  const float mean_of = 1.f / static_cast<float>(in.width);
  const auto weight = load_row<float>(in.weight, 0, 0, active);
  float dweight[kVec] = {}, dbias[kVec] = {};
  auto next_x = load_row<X>(in.x, blockIdx.x, in.x_stride, active);
  auto next_dy = load_row<Y>(args.dy, blockIdx.x, args.dy_stride, active);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x, turn ^= 1) {
    const auto x = next_x;
    const auto dy = next_dy;
    const bool more = active && row + gridDim.x < in.rows;
    next_x = load_row<X>(in.x, row + gridDim.x, in.x_stride, more);
    next_dy = load_row<Y>(args.dy, row + gridDim.x, args.dy_stride, more);
    const float mean = kLayer ? args.mean[row] : 0.f, r = args.root[row];
    float n[kVec], along = 0.f, shift = 0.f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      n[i] = (x[i] - mean) * r;
      along += n[i] * dy[i] * weight[i];
      shift += dy[i] * weight[i];
      dweight[i] += n[i] * dy[i];
      dbias[i] += dy[i];
    }
    along = block_sum(along, along_slots[turn]) * mean_of;
    shift = kLayer ? block_sum(shift, shift_slots[turn]) * mean_of : 0.f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) n[i] = r * (weight[i] * dy[i] - shift - n[i] * along);
    if (active) store_row<X>(args.dx, row, in.width, n);
  }
  float* const sums = static_cast<float*>(args.workspace) + blockIdx.x * (kLayer ? 2 : 1) * in.width;
  if (!active) return;
  store_sums(sums, dweight);
  if (kLayer) store_sums(sums + in.width, dbias);
}

struct ForwardKernel {
  template <class X, class Y, bool kLayer, int kThreads>
  static auto of() {
    return norm_forward_kernel<X, Y, kLayer, kThreads>;
  }
};
struct BackwardKernel {
  template <class X, class Y, bool kLayer, int kThreads>
  static auto of() {
    return norm_backward_kernel<X, Y, kLayer, kThreads>;
  }
};

/// Calls `call` with the kernel for these inputs.
template <class Kernel, class Call>
auto with_kernel(const NormInputs& in, const Call& call) {
  return for_elements(in.x_element, in.y_element, [&](auto x, auto y) {
    return for_row_threads(in.width, [&]<int kThreads>() {
      return in.bias ? call(Kernel::template of<decltype(x), decltype(y), true, kThreads>())
                     : call(Kernel::template of<decltype(x), decltype(y), false, kThreads>());
    });
  });
}

template <class Kernel, class Args>
cudaError_t launch(const Args& args, cudaStream_t stream) {
  return with_kernel<Kernel>(args.in, [&](auto kernel) { return launch_over_rows(kernel, args, stream); });
}

}  // namespace

bool norm_is_fast(const NormInputs& in) {
  return row_fits(in.width) && in.x_stride % kVec == 0 && in_packs(in.x) && in_packs(in.weight) &&
         in_packs(in.bias);
}

int64_t norm_fast_parts(const NormInputs& in) {
  if (!norm_is_fast(in)) return 0;
  return with_kernel<BackwardKernel>(in, [&](auto kernel) { return row_blocks(kernel, in.rows, in.width); });
}

cudaError_t norm_fast_forward(const NormForward& args, cudaStream_t stream) {
  return launch<ForwardKernel>(args, stream);
}
cudaError_t norm_fast_backward(const NormBackward& args, cudaStream_t stream) {
  return launch<BackwardKernel>(args, stream);
}

}  // namespace dm::kernels::cuda
