#include "kernels/conv/cuda/conv_fast.cuh"

namespace dm::kernels::cuda {
namespace {

using Cut = ConvCut<4>;  // measured at D 768, 1024 and 2048

template <class T>
__device__ void make_steps(const ConvForward& args, const Cut::Block& block, const Cut::Strip& strip) {
  const ConvInputs& in = args.in;
  const int64_t heads = in.columns.branches * in.columns.heads;
  for (int64_t head = Cut::lane(); head < heads; head += Cut::kLanes) {
    const T* const from = static_cast<const T*>(in.projected) + block.row * in.length * in.projected_stride +
                          dt_column(in.columns, head);
    const float bias = in.dt_bias[head];
#pragma unroll 8
    for (int64_t t = strip.first; t < strip.last; ++t)
      args.dt[(block.row * in.length + t) * heads + head] =
          step_size(in, to_float(from[t * in.projected_stride]) + bias);
  }
}

template <class T>
__global__ void __launch_bounds__(kConvThreads, 4) conv_forward_kernel(const ConvForward args, int columns) {
  extern __shared__ __align__(16) char memory[];
  __shared__ Cut::Terms terms;
  const ConvInputs& in = args.in;
  const Cut::Block block(in, columns);
  const Cut::Strip strip(block, in.length);
  if (block.steps) return make_steps<T>(args, block, strip);
  terms.find(in, block);
  const int64_t channels = in.columns.branches * (in.columns.inner + 2 * in.columns.group_width);
  const int64_t channel = int64_t{block.column} * Cut::kChannels + Cut::lane() * kConvVec;
  int left = static_cast<int>(strip.last - strip.first);
  if (channel >= channels || left <= 0) return;
  const ConvPlace place(in.columns, channel);
  const int64_t stride = in.projected_stride;
  const T* const from =
      static_cast<const T*>(in.projected) + block.row * in.length * stride + place.projected;
  Ahead<T> x(memory, from + strip.first * stride, stride, left);
  for (int i = 0; i < 2; ++i) x.ask(), end_step();
  T* to = static_cast<T*>(args.xbc) + (block.row * in.length + strip.first) * channels + place.merged;
  const Taps taps(in, channel);
  Window<T> window(in, block.row, strip.first, from, channel);

  const auto step = [&]<bool kAll>(uint32_t bits) {
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      window.take(i, x.token(i));
      float y[kConvVec];
#pragma unroll
      for (int c = 0; c < kConvVec; ++c) {
        float u = taps.bias[c];
#pragma unroll
        for (int k = 0; k < kTaps; ++k)
          if (has_term<kAll>(bits, i, k)) u += taps.weight[k][c] * window.x[ring(i, k)][c];
        y[c] = u * sigmoid<T>(u);
      }
      if (kAll || left > i) Pack<T, kConvVec>::of(y).to(to);
      to += channels;
    }
  };
  for (int local = Cut::strip() * kStrip; left > 0; left -= kTaps, local += kTaps) {
    x.ask();
    end_step();
    wait_for_step();
    const uint32_t bits = terms.four(local);
    if (bits == kAllTerms)
      step.template operator()<true>(bits);
    else
      step.template operator()<false>(bits);
    x.move();
  }
}

}  // namespace

cudaError_t conv_fast_forward(const ConvForward& args, cudaStream_t stream) {
  return for_element(args.in.element, [&](auto element) {
    using T = decltype(element);
    return launch_conv<Cut>(conv_forward_kernel<T>, args, Ahead<T>::kSharedBytes, stream);
  });
}

}  // namespace dm::kernels::cuda
