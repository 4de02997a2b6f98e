// Every shape: a thread has one channel (or, behind the channels, one head) and 64 tokens of a row, and works
// out each term from memory.

#include "kernels/conv/cuda/conv_paths.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTokens = 64;

__host__ __device__ int64_t token_blocks(int64_t length) { return (length + kTokens - 1) / kTokens; }

/// A thread's column, of channels and heads together, and its block's tokens.
struct Place {
  int64_t part, row, first, last, column;

  __device__ Place(const ConvInputs& in, int64_t columns) {
    const int64_t column_blocks = (columns + kThreads - 1) / kThreads, blocks = token_blocks(in.length);
    part = blockIdx.x / column_blocks;
    row = part / blocks;
    first = part % blocks * kTokens;
    last = min(first + kTokens, in.length);
    column = blockIdx.x % column_blocks * kThreads + threadIdx.x;
  }
};

/// One channel of one row.
template <class T>
struct Channel {
  const ConvInputs& in;
  int64_t row, channel, channels;
  ConvPlace place;

  __device__ Channel(const ConvInputs& in, int64_t row, int64_t channel, int64_t channels)
      : in(in), row(row), channel(channel), channels(channels), place(in.columns, channel) {}

  /// Element of projected, or of initial for t < 0.
  __device__ int64_t index(int64_t t) const {
    return t < 0 ? (row * (in.width - 1) + in.width - 1 + t) * channels + channel
                 : (row * in.length + t) * in.projected_stride + place.projected;
  }
  __device__ float x(int64_t t) const {
    return to_float(static_cast<const T*>(t < 0 ? in.initial : in.projected)[index(t)]);
  }
  __device__ float weight(int64_t k) const { return in.weight[channel * in.width + k]; }
  __device__ float u(int64_t t) const {
    float sum = in.bias[channel];
    for (int64_t k = 0; k < in.width; ++k) {
      const int64_t source = t - (in.width - 1) + k;
      if (is_term(in, row, source, t)) sum += weight(k) * x(source);
    }
    return sum;
  }
  __device__ int64_t merged(int64_t t) const { return (row * in.length + t) * channels + place.merged; }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_plain_forward_kernel(const ConvForward args, int64_t channels, int64_t heads) {
  const ConvInputs& in = args.in;
  const auto [part, row, first, last, column] = Place(in, channels + heads);
  if (column < channels) {
    const Channel<T> my(in, row, column, channels);
    for (int64_t t = first; t < last; ++t) {
      const float u = my.u(t);
      put(static_cast<T*>(args.xbc) + my.merged(t), u * sigmoid<T>(u));
    }
  } else if (const int64_t head = column - channels; head < heads) {
    for (int64_t t = first; t < last; ++t) {
      const int64_t token = row * in.length + t, from = token * in.projected_stride;
      args.dt[token * heads + head] =
          step_size(in, to_float(static_cast<const T*>(in.projected)[from + dt_column(in.columns, head)]) +
                            in.dt_bias[head]);
    }
  }
}

template <class T>
__device__ void channel_backward(const ConvBackward& args, const Channel<T>& my, int64_t first, int64_t last,
                                 float* parts) {
  const ConvInputs& in = args.in;
  const auto du = [&](int64_t t) {
    return to_float(static_cast<const T*>(args.dxbc)[my.merged(t)]) * silu_slope<T>(my.u(t));
  };
  const int64_t before = first == 0 && args.dinitial ? in.width - 1 : 0;
  for (int64_t s = first - before; s < last; ++s) {
    float dx = 0.f;
    for (int64_t k = 0; k < in.width; ++k) {
      const int64_t t = s + in.width - 1 - k;
      if (t >= 0 && t < in.length && is_term(in, my.row, s, t)) dx += my.weight(k) * du(t);
    }
    put(static_cast<T*>(s < 0 ? args.dinitial : args.dprojected) + my.index(s), dx);
  }
  float dbias = 0.f;
  for (int64_t t = first; t < last; ++t) dbias += du(t);
  parts[my.channels * in.width + my.channel] = dbias;
  for (int64_t k = 0; k < in.width; ++k) {
    float sum = 0.f;
    for (int64_t t = first; t < last; ++t) {
      const int64_t source = t - (in.width - 1) + k;
      if (is_term(in, my.row, source, t)) sum += du(t) * my.x(source);
    }
    parts[my.channel * in.width + k] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_plain_backward_kernel(const ConvBackward args, int64_t channels, int64_t heads) {
  const ConvInputs& in = args.in;
  const auto [part, row, first, last, column] = Place(in, channels + heads);
  float* const parts = static_cast<float*>(args.workspace) + part * (channels * (in.width + 1) + heads);
  if (column < channels) {
    channel_backward(args, Channel<T>(in, row, column, channels), first, last, parts);
  } else if (const int64_t head = column - channels; head < heads) {
    float sum = 0.f;
    for (int64_t t = first; t < last; ++t) {
      const int64_t token = row * in.length + t;
      const int64_t place = token * in.projected_stride + dt_column(in.columns, head);
      const float d = args.ddt[token * heads + head] *
                      step_slope(in, to_float(static_cast<const T*>(in.projected)[place]) + in.dt_bias[head]);
      put(static_cast<T*>(args.dprojected) + place, d);
      sum += d;
    }
    parts[channels * (in.width + 1) + head] = sum;
  }
}

unsigned blocks_of(const ConvInputs& in) {
  const int64_t column_blocks = (conv_channels(in) + conv_heads(in) + kThreads - 1) / kThreads;
  return static_cast<unsigned>(column_blocks * conv_plain_parts(in));
}

}  // namespace

int64_t conv_plain_parts(const ConvInputs& in) { return in.rows * token_blocks(in.length); }

cudaError_t conv_plain_forward(const ConvForward& args, cudaStream_t stream) {
  const auto kernel = args.in.element == Element::kFloat32 ? conv_plain_forward_kernel<float>
                                                           : conv_plain_forward_kernel<bf16>;
  kernel<<<blocks_of(args.in), kThreads, 0, stream>>>(args, conv_channels(args.in), conv_heads(args.in));
  return cudaGetLastError();
}

cudaError_t conv_plain_backward(const ConvBackward& args, cudaStream_t stream) {
  const auto kernel = args.in.element == Element::kFloat32 ? conv_plain_backward_kernel<float>
                                                           : conv_plain_backward_kernel<bf16>;
  kernel<<<blocks_of(args.in), kThreads, 0, stream>>>(args, conv_channels(args.in), conv_heads(args.in));
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
