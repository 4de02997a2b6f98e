// Every shape: a thread block walks over tokens, over the spans of a token, and over a span's channels. It
// sums dweight and dscale in its row of the workspace, where no other block writes.

#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/sums.cuh"
#include "kernels/gated_norm/cuda/gated_norm_paths.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostParts = 264;

template <class T>
struct Gate {
  float y, z, sigma;
  __device__ Gate(const GatedNormInputs& in, int64_t token, int64_t e) {
    y = to_float(static_cast<const T*>(in.y)[token * in.branches * in.inner + e]);
    z = to_float(static_cast<const T*>(in.z)[z_place(in, token, e)]);
    sigma = sigmoid<T>(z);
  }
  __device__ float value() const { return y * z * sigma; }
  static __device__ int64_t z_place(const GatedNormInputs& in, int64_t token, int64_t e) {
    return token * in.z_stride + e / in.inner * in.z_branch_stride + e % in.inner;
  }
};

__device__ float scale_at(const GatedNormInputs& in, int64_t token, int64_t e) {
  if (in.sections == 0) return 1.f;
  return in.scale[(in.scale_by_token ? token * in.sections : 0) + e / (in.branches * in.inner / in.sections)];
}

/// Without a norm: one part, with weights and roots of 1.
__device__ int64_t spans_of(const GatedNormInputs& in) { return in.spans > 0 ? in.spans : 1; }
__device__ float weight_at(const GatedNormInputs& in, int64_t e) { return in.spans > 0 ? in.weight[e] : 1.f; }

/// The sum of value(e) over [begin, end), by all threads.
template <class Value>
__device__ float sum_over(int64_t begin, int64_t end, BlockSlots (&slots)[2], int& turn, const Value& value) {
  float sum = 0.f;
  for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) sum += value(e);
  turn ^= 1;
  return block_sum(sum, slots[turn]);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gated_norm_plain_forward_kernel(const GatedNormForward args) {
  __shared__ BlockSlots slots[2];
  const GatedNormInputs& in = args.in;
  const int64_t width = in.branches * in.inner, spans = spans_of(in), span_width = width / spans;
  int turn = 0;
  for (int64_t token = blockIdx.x; token < in.tokens; token += gridDim.x)
    for (int64_t span = 0; span < spans; ++span) {
      const int64_t begin = span * span_width, end = begin + span_width;
      const float squares = sum_over(begin, end, slots, turn, [&](int64_t e) {
        const float g = Gate<T>(in, token, e).value();
        return g * g;
      });
      const float r = in.spans > 0 ? rsqrtf(squares / static_cast<float>(span_width) + in.eps) : 1.f;
      if (args.root && threadIdx.x == 0) args.root[token * in.spans + span] = r;
      for (int64_t e = begin + threadIdx.x; e < end; e += kThreads)
        put(static_cast<T*>(args.out) + token * width + e,
            Gate<T>(in, token, e).value() * r * (weight_at(in, e) * scale_at(in, token, e)));
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) gated_norm_plain_backward_kernel(const GatedNormBackward args) {
  __shared__ BlockSlots slots[2];
  const GatedNormInputs& in = args.in;
  const int64_t width = in.branches * in.inner, spans = spans_of(in), span_width = width / spans;
  const int64_t columns = width + (in.scale_by_token ? 0 : in.sections);
  const T* const dout = static_cast<const T*>(args.dout);
  float* const sums = static_cast<float*>(args.workspace) + blockIdx.x * columns;
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) sums[i] = 0.f;
  __syncthreads();
  int turn = 0;
  for (int64_t token = blockIdx.x; token < in.tokens; token += gridDim.x) {
    const auto root_of = [&](int64_t span) { return in.spans > 0 ? args.root[token * spans + span] : 1.f; };
    const auto pull = [&](int64_t e) {  // dout n
      return to_float(dout[token * width + e]) * Gate<T>(in, token, e).value() * root_of(e / span_width);
    };
    for (int64_t section = 0; section < in.sections; ++section) {
      const int64_t section_width = width / in.sections, begin = section * section_width;
      const float sum = sum_over(begin, begin + section_width, slots, turn,
                                 [&](int64_t e) { return pull(e) * weight_at(in, e); });
      if (threadIdx.x != 0) continue;
      if (in.scale_by_token)
        args.dscale[token * in.sections + section] = sum;
      else
        sums[width + section] += sum;
    }
    for (int64_t span = 0; span < spans; ++span) {
      const int64_t begin = span * span_width, end = begin + span_width;
      const float r = root_of(span);
      const float along = sum_over(begin, end, slots, turn, [&](int64_t e) {
        return pull(e) * weight_at(in, e) * scale_at(in, token, e);
      });
      const float k = in.spans > 0 ? along / static_cast<float>(span_width) : 0.f;
      for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
        const Gate<T> gate(in, token, e);
        const float scale = scale_at(in, token, e), silu = gate.z * gate.sigma;
        const float dn = to_float(dout[token * width + e]) * (weight_at(in, e) * scale);
        const float dg = r * (dn - gate.value() * r * k);
        sums[e] += pull(e) * scale;
        put(static_cast<T*>(args.dy) + token * width + e, dg * silu);
        put(static_cast<T*>(args.dz) + Gate<T>::z_place(in, token, e),
            dg * gate.y * (gate.sigma + silu * (1.f - gate.sigma)));
      }
    }
  }
}

}  // namespace

int64_t gated_norm_plain_parts(const GatedNormInputs& in) { return std::min(in.tokens, kMostParts); }

cudaError_t gated_norm_plain_forward(const GatedNormForward& args, cudaStream_t stream) {
  const auto kernel = args.in.element == Element::kFloat32 ? gated_norm_plain_forward_kernel<float>
                                                           : gated_norm_plain_forward_kernel<bf16>;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(args.in.tokens, 1 << 16));
  kernel<<<blocks, kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t gated_norm_plain_backward(const GatedNormBackward& args, cudaStream_t stream) {
  const auto kernel = args.in.element == Element::kFloat32 ? gated_norm_plain_backward_kernel<float>
                                                           : gated_norm_plain_backward_kernel<bf16>;
  kernel<<<static_cast<unsigned>(gated_norm_plain_parts(args.in)), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
