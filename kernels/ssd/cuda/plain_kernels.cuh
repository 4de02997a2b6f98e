#pragma once
// Kernels of the plain path. A thread block has one (row, head).

#include <cuda_bf16.h>

#include "kernels/ssd/cuda/documents.cuh"
#include "kernels/ssd/cuda/plain.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {

constexpr int kPlainThreads = 256;
constexpr int kPlainWarps = kPlainThreads / 32;

__device__ inline float as_float(float v) { return v; }
__device__ inline float as_float(bf16 v) { return __bfloat162float(v); }
template <typename T>
__device__ T from_float(float v) {
  if constexpr (sizeof(T) == 4)
    return v;
  else
    return __float2bfloat16_rn(v);
}

/// One (row, head) of the inputs.
template <typename T>
struct PlainHead {
  const SsdInputs& in;
  int64_t row, head, token0;
  float a, d;

  __device__ PlainHead(const SsdInputs& inputs)
      : in(inputs),
        row(blockIdx.y),
        head(blockIdx.x),
        token0(int64_t(blockIdx.y) * inputs.shape.length),
        a(inputs.a[blockIdx.x]),
        d(inputs.d[blockIdx.x]) {}

  __device__ const T* x(int64_t t) const {
    return static_cast<const T*>(in.x) + (token0 + t) * in.x_stride + head * in.shape.head_dim;
  }
  __device__ int64_t group_column() const {
    return head / (in.shape.heads / in.shape.groups) * in.shape.state;
  }
  __device__ const T* b(int64_t t) const {
    return static_cast<const T*>(in.b) + (token0 + t) * in.b_stride + group_column();
  }
  __device__ const T* c(int64_t t) const {
    return static_cast<const T*>(in.c) + (token0 + t) * in.c_stride + group_column();
  }
  __device__ float dt(int64_t t) const { return in.dt[(token0 + t) * in.shape.heads + head]; }
  __device__ bool begins(int64_t t) const { return begins_document(in, row, t); }
  __device__ float decay(int64_t t) const { return begins(t) ? 0.f : expf(dt(t) * a); }
  __device__ int64_t state_at() const {
    return (row * in.shape.heads + head) * in.shape.head_dim * in.shape.state;
  }
  __device__ int64_t saved_at(int64_t t) const {
    const int64_t pieces = (in.shape.length + kPlainInterval - 1) / kPlainInterval;
    return ((row * pieces + t / kPlainInterval) * in.shape.heads + head) * in.shape.head_dim * in.shape.state;
  }
};

/// A warp has one p at a time and its row of the state in shared memory [N]; nothing is shared between warps.
template <typename T>
__global__ void __launch_bounds__(kPlainThreads) plain_forward_kernel(const SsdForward args) {
  extern __shared__ float rows[];
  const PlainHead<T> my(args.in);
  const int64_t length = my.in.shape.length, width = my.in.shape.head_dim, size = my.in.shape.state;
  const int lane = threadIdx.x % 32;
  float* const state = rows + threadIdx.x / 32 * size;
  float* const saved = args.save_states ? static_cast<float*>(args.saved) : nullptr;
  for (int64_t p = threadIdx.x / 32; p < width; p += kPlainWarps) {
    for (int64_t n = lane; n < size; n += 32)
      state[n] = my.in.initial_state == nullptr ? 0.f : my.in.initial_state[my.state_at() + p * size + n];
    for (int64_t t = 0; t < length; ++t) {
      const float decay = my.decay(t), x = as_float(my.x(t)[p]), in = my.dt(t) * x;
      const bool begins = my.begins(t);
      float out = 0.f;
      for (int64_t n = lane; n < size; n += 32) {
        const float before = state[n];
        if (saved != nullptr && t % kPlainInterval == 0) saved[my.saved_at(t) + p * size + n] = before;
        state[n] = (begins ? 0.f : decay * before) + in * as_float(my.b(t)[n]);
        out += state[n] * as_float(my.c(t)[n]);
      }
      out = warp_sum(out);
      if (lane == 0)
        static_cast<T*>(args.y)[(my.token0 + t) * args.y_stride + my.head * width + p] =
            from_float<T>(out + my.d * x);
    }
    if (args.final_state != nullptr)
      for (int64_t n = lane; n < size; n += 32) args.final_state[my.state_at() + p * size + n] = state[n];
  }
}

/// The states alone, of which a thread has some: forward to args.state from in.initial_state, or, given dy,
/// back to it from dfinal_state.
template <typename T>
__global__ void __launch_bounds__(kPlainThreads) plain_states_kernel(const SsdPassage args) {
  const PlainHead<T> my(args.in);
  const int64_t length = my.in.shape.length, width = my.in.shape.head_dim, size = my.in.shape.state;
  const bool back = args.dy != nullptr;
  const float* const start = back ? args.dfinal_state : my.in.initial_state;
  for (int64_t i = threadIdx.x; i < width * size; i += kPlainThreads) {
    const int64_t p = i / size, n = i % size;
    float state = start == nullptr ? 0.f : start[my.state_at() + i], through = 1.f;
    for (int64_t step = 0; step < length; ++step) {
      const int64_t t = back ? length - 1 - step : step;
      const float decay = my.decay(t);
      through *= decay;
      if (back) {
        const T* const dy =
            static_cast<const T*>(args.dy) + (my.token0 + t) * args.dy_stride + my.head * width;
        state += as_float(dy[p]) * as_float(my.c(t)[n]);
        state = my.begins(t) ? 0.f : decay * state;
      } else {
        state = (my.begins(t) ? 0.f : decay * state) + my.dt(t) * as_float(my.x(t)[p]) * as_float(my.b(t)[n]);
      }
    }
    args.state[my.state_at() + i] = state;
    if (i == 0) args.decay[my.row * my.in.shape.heads + my.head] = through;
  }
}

/// Workspace of the backward pass.
struct PlainWorkspace {
  float* states;  // per block [kPlainInterval, P, N]: the state after each token
  float* dstate;  // per block [P, N]
  float* db;      // [B, L, H, N]: per head, summed over the group's heads afterwards
  float* dc;      // likewise
  float* da;      // [B, H]
  float* dd;      // [B, H]
};

template <typename T>
__global__ void __launch_bounds__(kPlainThreads)
    plain_backward_kernel(const SsdBackward args, const PlainWorkspace work) {
  extern __shared__ float sums[];  // [3, P]
  const PlainHead<T> my(args.in);
  const SsdShape& shape = my.in.shape;
  const int64_t width = shape.head_dim, size = shape.state, elements = width * size;
  const int64_t block = my.row * shape.heads + my.head;
  const int thread = threadIdx.x, lane = thread % 32;
  const float* const saved = static_cast<const float*>(args.saved);
  float* const states = work.states + block * kPlainInterval * elements;
  float* const dstate = work.dstate + block * elements;
  float da = 0.f, dd = 0.f;
  for (int64_t i = thread; i < elements; i += kPlainThreads)
    dstate[i] = args.dfinal_state == nullptr ? 0.f : args.dfinal_state[my.state_at() + i];

  for (int64_t begin = (shape.length - 1) / kPlainInterval * kPlainInterval; begin >= 0;
       begin -= kPlainInterval) {
    const int64_t end = min(begin + kPlainInterval, shape.length);
    for (int64_t i = thread; i < elements; i += kPlainThreads) {
      float state = saved[my.saved_at(begin) + i];
      for (int64_t t = begin; t < end; ++t) {
        state = (my.begins(t) ? 0.f : my.decay(t) * state) +
                my.dt(t) * as_float(my.x(t)[i / size]) * as_float(my.b(t)[i % size]);
        states[(t - begin) * elements + i] = state;
      }
    }
    __syncthreads();
    for (int64_t t = end - 1; t >= begin; --t) {
      const T* const dy = static_cast<const T*>(args.dy) + (my.token0 + t) * args.dy_stride + my.head * width;
      const float dt = my.dt(t), decay = my.decay(t);
      const bool begins = my.begins(t);
      // A thread has one n: dS_t is complete, and with it dB and dC.
      for (int64_t n = thread; n < size; n += kPlainThreads) {
        const float c = as_float(my.c(t)[n]);
        float db = 0.f, dc = 0.f;
        for (int64_t p = 0; p < width; ++p) {
          const float out = as_float(dy[p]);
          float& ds = dstate[p * size + n];
          ds += out * c;
          dc += out * states[(t - begin) * elements + p * size + n];
          db += ds * as_float(my.x(t)[p]);
        }
        const int64_t at = ((my.token0 + t) * shape.heads + my.head) * size + n;
        work.db[at] = dt * db;
        work.dc[at] = dc;
      }
      __syncthreads();
      // A warp has one p: dx, and dS_{t-1} in place.
      const float* const before =
          t == begin ? saved + my.saved_at(begin) : states + (t - 1 - begin) * elements;
      for (int64_t p = thread / 32; p < width; p += kPlainWarps) {
        float through_input = 0.f, through_decay = 0.f;
        for (int64_t n = lane; n < size; n += 32) {
          float& ds = dstate[p * size + n];
          through_input += ds * as_float(my.b(t)[n]);
          ds = begins ? 0.f : ds * decay;
          if (!begins) through_decay += ds * before[p * size + n];
        }
        through_input = warp_sum(through_input);
        through_decay = warp_sum(through_decay);
        if (lane == 0) {
          const float x = as_float(my.x(t)[p]), out = as_float(dy[p]);
          static_cast<T*>(args.dx)[(my.token0 + t) * args.dx_stride + my.head * width + p] =
              from_float<T>(dt * through_input + my.d * out);
          sums[p] = x * through_input;
          sums[width + p] = through_decay;
          sums[2 * width + p] = x * out;
        }
      }
      __syncthreads();
      if (thread == 0) {
        float of_input = 0.f, of_decay = 0.f;
        for (int64_t p = 0; p < width; ++p) {
          of_input += sums[p];
          of_decay += sums[width + p];
          dd += sums[2 * width + p];
        }
        args.ddt[(my.token0 + t) * shape.heads + my.head] = of_input + my.a * of_decay;
        da += dt * of_decay;
      }
    }
  }
  __syncthreads();
  if (thread == 0) {
    work.da[block] = da;
    work.dd[block] = dd;
  }
  if (args.dinitial_state != nullptr)
    for (int64_t i = thread; i < elements; i += kPlainThreads)
      args.dinitial_state[my.state_at() + i] = dstate[i];
}

/// dB and dC of a group from those of its heads, in head order.
__global__ void __launch_bounds__(kPlainThreads)
    plain_group_kernel(const SsdBackward args, const PlainWorkspace work) {
  const SsdShape& shape = args.in.shape;
  const int64_t heads = shape.heads / shape.groups, columns = shape.groups * shape.state;
  for (int64_t i = int64_t(blockIdx.x) * kPlainThreads + threadIdx.x; i < shape.rows * shape.length * columns;
       i += int64_t(gridDim.x) * kPlainThreads) {
    const int64_t token = i / columns, column = i % columns, n = column % shape.state;
    const int64_t from = (token * shape.heads + column / shape.state * heads) * shape.state + n;
    float db = 0.f, dc = 0.f;
    for (int64_t h = 0; h < heads; ++h) {
      db += work.db[from + h * shape.state];
      dc += work.dc[from + h * shape.state];
    }
    if (args.bc_element == Element::kFloat32) {
      static_cast<float*>(args.db)[token * args.db_stride + column] = db;
      static_cast<float*>(args.dc)[token * args.dc_stride + column] = dc;
    } else {
      static_cast<bf16*>(args.db)[token * args.db_stride + column] = from_float<bf16>(db);
      static_cast<bf16*>(args.dc)[token * args.dc_stride + column] = from_float<bf16>(dc);
    }
  }
}

}  // namespace dm::kernels::cuda
