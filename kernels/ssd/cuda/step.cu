#include "kernels/ssd/cuda/step.cuh"

#include <cuda_runtime.h>

#include "kernels/device/rows.cuh"
#include "kernels/device/sums.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr float kLog2E = 1.4426950408889634f;

template <int kEach>
__device__ void load(const float* from, float (&values)[kEach]) {
  if constexpr (kEach == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
  } else {
    values[0] = *from;
  }
}
template <int kEach>
__device__ void store(float* to, const float (&values)[kEach]) {
  if constexpr (kEach == 4)
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
  else
    *to = values[0];
}

/// Bits of kEach neighbours of a row of B or C.
template <int kEach>
struct Neighbours {
  FourBits bits;
  __device__ Neighbours(const Rows& rows, int64_t row, int64_t i) {
    if constexpr (kEach == 4)
      bits = four_bits(rows, row, i, i + 4, in_fours(rows, 4));
    else
      bits.words[0] = cuda::bits(rows, row, i);
  }
  __device__ void values(const Rows& rows, float (&v)[kEach]) const {
    if constexpr (kEach == 4) {
      const float4 four = four_values(rows, bits);
      v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    } else {
      v[0] = value(rows, bits.words[0]);
    }
  }
};

/// kLanes threads have one row of states, kEach neighbours a thread at a time.
template <int kLanes, int kEach>
__global__ void __launch_bounds__(kThreads) state_step_kernel(const StateStep args) {
  const int lane = threadIdx.x % kLanes;
  const int64_t rows = args.rows * args.heads * args.head_dim;
  const int64_t row = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  const bool there = row < rows;  // the others still take part in the sums
  const int64_t batch = there ? row / (args.heads * args.head_dim) : 0;
  const int64_t column = there ? row % (args.heads * args.head_dim) : 0, head = column / args.head_dim;
  const int64_t first = head / (args.heads / args.groups) * args.states;  // of the group's B and C
  const float x = read(args.x, batch, column), dt = read(args.dt, batch, head), dt2 = dt * kLog2E;
  const float decay = args.a_by_state ? 0.f : exp2_fast(dt2 * args.a[head]), input = dt * x;
  float* const state = args.state + (there ? row : 0) * args.states;
  float y = 0.f;
  for (int64_t n = lane * kEach; there && n < args.states; n += kLanes * kEach) {
    float s[kEach], a[kEach];
    load<kEach>(state + n, s);
    const Neighbours<kEach> b(args.b, batch, first + n), c(args.c, batch, first + n);
#pragma unroll
    for (int i = 0; i < kEach; ++i) a[i] = args.a_by_state ? args.a[head * args.states + n + i] : 0.f;
    float bs[kEach], cs[kEach];  // all loads are under way before one is looked at
    b.values(args.b, bs);
    c.values(args.c, cs);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float keep = args.a_by_state ? exp2_fast(dt2 * a[i]) : decay;
      s[i] = keep * s[i] + input * bs[i];
      y += s[i] * cs[i];
    }
    store<kEach>(state + n, s);
  }
  y = lane_sum(y, kLanes);
  if (there && lane == 0) write(args.y, args.x.element, row, y + args.d[head] * x);
}

}  // namespace

cudaError_t state_step(const StateStep& args, cudaStream_t stream) {
  const int64_t rows = args.rows * args.heads * args.head_dim;
  if (rows == 0) return cudaSuccess;
  const bool packs = args.states % 4 == 0 && in_packs(args.state);
  const auto launch = [&](auto kernel, int64_t lanes) {
    kernel<<<static_cast<unsigned>((rows * lanes + kThreads - 1) / kThreads), kThreads, 0, stream>>>(args);
  };
  if (!packs)
    launch(state_step_kernel<32, 1>, 32);
  else if (args.states <= 16)
    launch(state_step_kernel<4, 4>, 4);
  else if (args.states <= 64)
    launch(state_step_kernel<16, 4>, 16);
  else
    launch(state_step_kernel<32, 4>, 32);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
