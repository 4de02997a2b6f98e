// u is computed again from x. A strip's dx needs du of the three tokens behind it too, so a warp walks on
// over those; its sums over tokens take the strip's own.

#include "kernels/conv/cuda/conv_fast.cuh"

namespace dm::kernels::cuda {
namespace {

using Cut = ConvCut<2>;  // measured at D 768, 1024 and 2048

constexpr int kVec = kConvVec, kChannels = Cut::kChannels;
constexpr int kSums = kTaps + 1;  // of a channel: dweight, dbias
using WarpSums = float[Cut::kStrips][kSums][kChannels];

/// ddt; its sums go to parts[0 .. H).
template <class T>
__device__ void steps_backward(const ConvBackward& args, const Cut::Block& block, const Cut::Strip& strip,
                               float* parts) {
  __shared__ float sums[Cut::kStrips][Cut::kLanes];
  const ConvInputs& in = args.in;
  const int lane = Cut::lane(), warp = Cut::strip();
  const int64_t heads = in.columns.branches * in.columns.heads;
  for (int64_t first = 0; first < heads; first += Cut::kLanes) {
    const int64_t head = first + lane;
    float sum = 0.f;
    if (head < heads) {
      const int64_t place = block.row * in.length * in.projected_stride + dt_column(in.columns, head);
      const T* const from = static_cast<const T*>(in.projected) + place;
      T* const to = static_cast<T*>(args.dprojected) + place;
      const float bias = in.dt_bias[head];
#pragma unroll 8
      for (int64_t t = strip.first; t < strip.last; ++t) {
        const float d = args.ddt[(block.row * in.length + t) * heads + head] *
                        step_slope(in, to_float(from[t * in.projected_stride]) + bias);
        put(to + t * in.projected_stride, d);
        sum += d;
      }
    }
    __syncthreads();
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || head >= heads) continue;
    for (int i = 1; i < Cut::kStrips; ++i) sum += sums[i][lane];
    parts[head] = sum;
  }
}

/// dx of a strip; its sums over tokens are added to `sums`.
template <class T>
__device__ void walk(const ConvBackward& args, const Cut::Block& block, const Cut::Strip& strip,
                     const Cut::Terms& terms, char* shared, int64_t channels, int64_t channel,
                     float (&sums)[kSums][kVec]) {
  const ConvInputs& in = args.in;
  const ConvPlace place(in.columns, channel);
  const int64_t stride = in.projected_stride, start = block.row * in.length * stride + place.projected;
  const int count = static_cast<int>(strip.last - strip.first);
  const int reach = static_cast<int>(min(strip.last + kHalo, in.length) - strip.first);
  const T* const from = static_cast<const T*>(in.projected) + start;
  Ahead<T> x(shared, from + strip.first * stride, stride, reach);
  Ahead<T> dy(
      shared + Ahead<T>::kSharedBytes,
      static_cast<const T*>(args.dxbc) + (block.row * in.length + strip.first) * channels + place.merged,
      channels, reach);
  for (int i = 0; i < 2; ++i) x.ask(), dy.ask(), end_step();
  const Taps taps(in, channel);
  Window<T> window(in, block.row, strip.first, from, channel);
  float dx[kTaps][kVec] = {};  // of the same tokens as the window
  T* to = static_cast<T*>(args.dprojected) + start + (strip.first - kHalo) * stride;
  int done = -kHalo;  // tokens of the strip whose dx is written; below zero: those before the strip

  // kAll: every token of the step has all its terms, and dinitial has nothing to do with it.
  const auto step = [&]<bool kAll>(uint32_t bits, bool own) {
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      window.take(i, x.token(i));
      const Pack<T, kVec> gradient = dy.token(i);
#pragma unroll
      for (int c = 0; c < kVec; ++c) {
        float u = taps.bias[c], term[kTaps];
#pragma unroll
        for (int k = 0; k < kTaps; ++k) {
          term[k] = has_term<kAll>(bits, i, k) ? window.x[ring(i, k)][c] : 0.f;
          u += taps.weight[k][c] * term[k];
        }
        const float du = gradient[c] * silu_slope<T>(u);
        dx[ring(i, kHalo)][c] = taps.weight[kHalo][c] * du;
#pragma unroll
        for (int k = 0; k < kHalo; ++k)
          if (has_term<kAll>(bits, i, k)) dx[ring(i, k)][c] += taps.weight[k][c] * du;
        const float counted = own ? du : 0.f;
#pragma unroll
        for (int k = 0; k < kTaps; ++k) sums[k][c] += counted * term[k];
        sums[kTaps][c] += counted;
      }
      const auto pack = Pack<T, kVec>::of(dx[ring(i, 0)]);
      if (done >= 0 && done < count) pack.to(to);
      if (!kAll && done < 0 && strip.first == 0 && args.dinitial)
        pack.to(static_cast<T*>(args.dinitial) + (block.row * kHalo + kHalo + done) * channels + channel);
      to += stride;
      ++done;
    }
  };
  for (int local = Cut::strip() * kStrip; done < count; local += kTaps) {
    x.ask();
    dy.ask();
    end_step();
    wait_for_step();
    // Behind the row dy is 0, so only the three tokens behind a whole strip are not its own.
    const bool own = done + kHalo < count;
    const bool before = done < 0 && strip.first == 0 && args.dinitial;
    const uint32_t bits = terms.four(local);
    if (bits == kAllTerms && !before)
      step.template operator()<true>(bits, own);
    else
      step.template operator()<false>(bits, own);
    x.move();
    dy.move();
  }
  wait_for_all();  // what was asked for in vain would still be written
}

template <class T>
__global__ void __launch_bounds__(kConvThreads, 2)
    conv_backward_kernel(const ConvBackward args, int columns) {
  extern __shared__ __align__(16) char memory[];  // of the walk; then the warps' sums
  __shared__ Cut::Terms terms;
  const ConvInputs& in = args.in;
  const Cut::Block block(in, columns);
  const Cut::Strip strip(block, in.length);
  const int64_t channels = in.columns.branches * (in.columns.inner + 2 * in.columns.group_width);
  float* const parts = static_cast<float*>(args.workspace) +
                       block.tokens * (channels * kSums + in.columns.branches * in.columns.heads);
  if (block.steps) return steps_backward<T>(args, block, strip, parts + channels * kSums);
  terms.find(in, block);
  const int lane = Cut::lane(), warp = Cut::strip();
  const int64_t first = int64_t{block.column} * kChannels, channel = first + lane * kVec;
  float sums[kSums][kVec] = {};
  if (channel < channels && strip.first < strip.last)
    walk<T>(args, block, strip, terms, memory, channels, channel, sums);
  __syncthreads();
  auto& shared_sums = *reinterpret_cast<WarpSums*>(memory);
#pragma unroll
  for (int k = 0; k < kSums; ++k)
#pragma unroll
    for (int c = 0; c < kVec; ++c) shared_sums[warp][k][lane * kVec + c] = sums[k][c];
  __syncthreads();
  for (int i = threadIdx.x; i < kSums * kChannels; i += kConvThreads) {
    const int c = i % kChannels, k = i / kChannels;
    if (first + c >= channels) continue;
    float total = 0.f;
#pragma unroll
    for (int w = 0; w < Cut::kStrips; ++w) total += shared_sums[w][k][c];
    parts[k < kTaps ? (first + c) * kTaps + k : channels * kTaps + first + c] = total;
  }
}

}  // namespace

int64_t conv_fast_parts(const ConvInputs& in) {
  return conv_is_fast(in) ? in.rows * Cut::token_blocks(in.length) : 0;
}

cudaError_t conv_fast_backward(const ConvBackward& args, cudaStream_t stream) {
  return for_element(args.in.element, [&](auto element) {
    using T = decltype(element);
    constexpr int kBytes = 2 * Ahead<T>::kSharedBytes;
    static_assert(kBytes >= int{sizeof(WarpSums)});
    return launch_conv<Cut>(conv_backward_kernel<T>, args, kBytes, stream);
  });
}

}  // namespace dm::kernels::cuda
