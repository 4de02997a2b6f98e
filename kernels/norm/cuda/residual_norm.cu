#include "kernels/norm/cuda/norm_cuda.cuh"
#include "kernels/norm/cuda/norm_rows.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kVec = kRowVec;

template <class H, class T, bool kSubln, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) residual_norm_forward_kernel(const ResidualNormForward args) {
  __shared__ BlockSlots y_slots, h_slots[2];
  const ResidualNormInputs& in = args.in;
  const bool active = threadIdx.x * kVec < in.width;
  const float mean_of = 1.f / static_cast<float>(in.width);
  const auto weight = load_row<float>(in.weight, 0, 0, active),
             subln = load_row<float>(in.subln, 0, 0, active);
  auto next_h = load_row<H>(args.h, blockIdx.x, in.width, active);
  auto next_y = load_row<T>(in.y, blockIdx.x, in.width, active);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x, turn ^= 1) {
    const auto h = next_h;
    const auto y = next_y;
    const bool more = active && row + gridDim.x < in.rows;
    next_h = load_row<H>(args.h, row + gridDim.x, in.width, more);
    next_y = load_row<T>(in.y, row + gridDim.x, in.width, more);
    float root_of_y = 1.f;
    if constexpr (kSubln) {
      float squares = 0.f;
#pragma unroll
      for (int i = 0; i < kVec; ++i) squares += y[i] * y[i];
      root_of_y = rsqrtf(block_sum(squares, y_slots) * mean_of + in.eps);
    }
    float sum[kVec], u[kVec], squares = 0.f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) sum[i] = h[i] + (kSubln ? y[i] * root_of_y * subln[i] : y[i]);
    // The norm is that of h' as it is stored: the backward pass has no other.
    const auto stored = RowPack<H>::of(sum);
#pragma unroll
    for (int i = 0; i < kVec; ++i) squares += stored[i] * stored[i];
    const float root = rsqrtf(block_sum(squares, h_slots[turn]) * mean_of + in.eps);
    if (threadIdx.x == 0 && args.root) {
      args.root[row] = root;
      if (kSubln) args.root_of_y[row] = root_of_y;
    }
    if (!active) continue;
#pragma unroll
    for (int i = 0; i < kVec; ++i) u[i] = stored[i] * root * weight[i];
    stored.to(static_cast<H*>(args.h_next) + row * in.width + threadIdx.x * kVec);
    store_row<T>(args.u, row, in.width, u);
  }
}

// With n = h' r, dn = du weight: dh = dh' + r (dn - n mean(dn n)). With m = y q (q the root of y) and dm = dh
// subln: dy = q (dm - m mean(dm m)), or dh itself without a subln.
template <class H, class T, bool kSubln, int kThreads>
__global__ void __launch_bounds__(kThreads, 1)
    residual_norm_backward_kernel(const ResidualNormBackward args) {
  __shared__ BlockSlots y_slots, h_slots[2];
  const ResidualNormInputs& in = args.in;
  const bool active = threadIdx.x * kVec < in.width;
  const float mean_of = 1.f / static_cast<float>(in.width);
  const auto weight = load_row<float>(in.weight, 0, 0, active),
             subln = load_row<float>(in.subln, 0, 0, active);
  float dweight[kVec] = {}, dsubln[kVec] = {};
  auto next_h = load_row<H>(args.h_next, blockIdx.x, in.width, active);
  auto next_dh = load_row<H>(args.dh_next, blockIdx.x, in.width, active);
  auto next_du = load_row<T>(args.du, blockIdx.x, in.width, active);
  auto next_y = load_row<T>(kSubln ? in.y : nullptr, blockIdx.x, in.width, active);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x, turn ^= 1) {
    const auto h = next_h, dh_next = next_dh;
    const auto du = next_du, y = next_y;
    const bool more = active && row + gridDim.x < in.rows;
    next_h = load_row<H>(args.h_next, row + gridDim.x, in.width, more);
    next_dh = load_row<H>(args.dh_next, row + gridDim.x, in.width, more);
    next_du = load_row<T>(args.du, row + gridDim.x, in.width, more);
    next_y = load_row<T>(kSubln ? in.y : nullptr, row + gridDim.x, in.width, more);
    const float r = args.root[row], q = kSubln ? args.root_of_y[row] : 1.f;
    float dh[kVec], along = 0.f;
#pragma unroll
    for (int i = 0; i < kVec; ++i) {
      const float d = du[i] * h[i] * r;
      dweight[i] += d;
      along += d * weight[i];
    }
    along = block_sum(along, h_slots[turn]) * mean_of;
#pragma unroll
    for (int i = 0; i < kVec; ++i) dh[i] = dh_next[i] + r * (du[i] * weight[i] - h[i] * r * along);
    if (active) store_row<H>(args.dh, row, in.width, dh);
    if constexpr (kSubln) {
      float towards = 0.f;
#pragma unroll
      for (int i = 0; i < kVec; ++i) {
        const float d = dh[i] * y[i] * q;
        dsubln[i] += d;
        towards += d * subln[i];
      }
      towards = block_sum(towards, y_slots) * mean_of;
#pragma unroll
      for (int i = 0; i < kVec; ++i) dh[i] = q * (dh[i] * subln[i] - y[i] * q * towards);
    }
    if (active) store_row<T>(args.dy, row, in.width, dh);
  }
  float* const sums = static_cast<float*>(args.workspace) + blockIdx.x * (kSubln ? 2 : 1) * in.width;
  if (!active) return;
  store_sums(sums, dweight);
  if (kSubln) store_sums(sums + in.width, dsubln);
}

/// Calls `call` with the kernel for these inputs.
template <class Kernel, class Call>
auto with_kernel(const ResidualNormInputs& in, const Call& call) {
  const auto choose = [&]<class H, class T>() {
    return for_row_threads(in.width, [&]<int kThreads>() {
      return in.subln ? call(Kernel::template of<H, T, true, kThreads>())
                      : call(Kernel::template of<H, T, false, kThreads>());
    });
  };
  if (in.element == Element::kFloat32) return choose.template operator()<float, float>();
  return in.stream == Element::kFloat32 ? choose.template operator()<float, bf16>()
                                        : choose.template operator()<bf16, bf16>();
}

struct ForwardKernel {
  template <class H, class T, bool kSubln, int kThreads>
  static auto of() {
    return residual_norm_forward_kernel<H, T, kSubln, kThreads>;
  }
};
struct BackwardKernel {
  template <class H, class T, bool kSubln, int kThreads>
  static auto of() {
    return residual_norm_backward_kernel<H, T, kSubln, kThreads>;
  }
};

int64_t parts_of(const ResidualNormInputs& in) {
  return with_kernel<BackwardKernel>(in, [&](auto kernel) { return row_blocks(kernel, in.rows, in.width); });
}

template <class Kernel, class Args>
cudaError_t launch(const Args& args, cudaStream_t stream) {
  return with_kernel<Kernel>(args.in, [&](auto kernel) { return launch_over_rows(kernel, args, stream); });
}

}  // namespace

bool residual_norm_serves(const ResidualNormInputs& in) {
  return row_fits(in.width) && in_packs(in.y) && in_packs(in.weight) && in_packs(in.subln) &&
         (in.element == Element::kBFloat16 || in.stream == Element::kFloat32);
}

int64_t residual_norm_workspace_bytes(const ResidualNormInputs& in) {
  return parts_of(in) * (in.subln ? 2 : 1) * in.width * int64_t{sizeof(float)};
}

cudaError_t residual_norm_forward(const ResidualNormForward& args, cudaStream_t stream) {
  return args.in.rows == 0 ? cudaSuccess : launch<ForwardKernel>(args, stream);
}

cudaError_t residual_norm_backward(const ResidualNormBackward& args, cudaStream_t stream) {
  const ResidualNormInputs& in = args.in;
  if (in.rows > 0)
    if (const cudaError_t error = launch<BackwardKernel>(args, stream); error != cudaSuccess) return error;
  return sum_columns(static_cast<const float*>(args.workspace), in.rows > 0 ? parts_of(in) : 0,
                     {{args.dweight, in.width}, {args.dsubln, in.subln ? in.width : 0}}, stream);
}

}  // namespace dm::kernels::cuda
