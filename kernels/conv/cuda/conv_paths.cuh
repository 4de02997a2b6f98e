#pragma once
// The two ways of conv_cuda.cuh: `fast` for W = 4 and columns in multiples of eight, `plain` for every shape;
// and what their kernels share.

#include "kernels/conv/cuda/conv_cuda.cuh"
#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {

bool conv_is_fast(const ConvInputs& in);

/// Rows of sums that the backward pass leaves in the workspace, each dweight | dbias | ddt_bias.
int64_t conv_fast_parts(const ConvInputs& in);
int64_t conv_plain_parts(const ConvInputs& in);
inline int64_t conv_channels(const ConvInputs& in) { return in.columns.branches * in.columns.channels(); }
inline int64_t conv_heads(const ConvInputs& in) { return in.columns.branches * in.columns.heads; }
inline int64_t conv_sums(const ConvInputs& in) { return conv_channels(in) * (in.width + 1) + conv_heads(in); }

cudaError_t conv_fast_forward(const ConvForward& args, cudaStream_t stream);
cudaError_t conv_fast_backward(const ConvBackward& args, cudaStream_t stream);
cudaError_t conv_plain_forward(const ConvForward& args, cudaStream_t stream);
cudaError_t conv_plain_backward(const ConvBackward& args, cudaStream_t stream);

/// Where channel `channel`, counted in the projection's order over all branches, stands.
struct ConvPlace {
  int64_t projected;  // column
  int64_t merged;     // column of xbc

  __device__ ConvPlace(const MixerColumns& columns, int64_t channel) {
    const int64_t inner = columns.inner, group = columns.group_width, each = inner + 2 * group;
    const int64_t branch = channel / each, i = channel % each;
    projected = branch * columns.branch_stride + columns.x_offset + i;
    if (i < inner)
      merged = branch * inner + i;
    else if (i < inner + group)
      merged = columns.branches * inner + branch * group + i - inner;
    else
      merged = columns.branches * (inner + group) + branch * group + i - inner - group;
  }
};

/// Column of dt of head `head`, counted over all branches.
__device__ inline int64_t dt_column(const MixerColumns& columns, int64_t head) {
  return head / columns.heads * columns.branch_stride + columns.dt_offset + head % columns.heads;
}

/// Whether token `source` <= t is a term of token t's sum.
__device__ inline bool is_term(const ConvInputs& in, int64_t row, int64_t source, int64_t t) {
  const int32_t* const ids = in.seq_idx + row * in.length;
  if (source >= 0) return ids[source] == ids[t];
  if (!in.initial) return false;
  return (in.before ? in.before[(row + 1) * in.before_stride + source] : ids[0]) == ids[t];
}

/// d silu(u) / du.
template <class T>
__device__ float silu_slope(float u) {
  const float s = sigmoid<T>(u);
  return s * (1.f + u * (1.f - s));
}

/// Δ of the projection's dt, and dΔ/ddt.
__device__ inline float step_size(const ConvInputs& in, float v) {
  return fminf(fmaxf(softplus(v), in.dt_min), in.dt_max);
}
__device__ inline float step_slope(const ConvInputs& in, float v) {
  const float step = softplus(v);
  return step >= in.dt_min && step <= in.dt_max ? 1.f / (1.f + expf(-v)) : 0.f;
}

}  // namespace dm::kernels::cuda
