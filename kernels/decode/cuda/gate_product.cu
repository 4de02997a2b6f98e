#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/decode/cuda/row_products.cuh"
#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kHalo = 3;
constexpr int kVec = 8, kWarpChannels = 32 * kVec, kStride = kVec * kProductThreads;
constexpr int kMostTurns = 4, kMostPieces = kMostTurns * kProductWarps;  // of kWarpChannels channels

/// The tokens of the convolution's window of rows [begin, end) move up by one, this one comes last; by
/// `threads` threads, of which this is number `thread`.
__device__ void move_window(const GateProduct& args, int64_t begin, int64_t end, int64_t thread,
                            int64_t threads) {
  const MixerStep& step = args.step;
  const int64_t channels = step.branches * step.channels();
  for (int64_t i = begin * channels + thread; i < end * channels; i += threads) {
    const int64_t row = i / channels, channel = i % channels, branch = channel / step.channels();
    bf16* const window = static_cast<bf16*>(args.window) + row * kHalo * channels + channel;
    const bf16* const columns = static_cast<const bf16*>(step.projected) + row * step.projected_stride;
    window[0] = window[channels];
    window[channels] = window[2 * channels];
    window[2 * channels] = columns[branch * step.columns() + step.inner + channel % step.channels()];
  }
}

using NormPack = Pack<float, kVec>;

/// The gated norm of rows row .. row + kRows - 1, as far as there are some, to x, as RowStream wants it. Each
/// warp's piece of 256 channels lies in one span. `first_norm`: the weights of the thread's first channels.
template <int kRows>
__device__ void gated_norms(const GateProduct& args, int64_t row, const NormPack& first_norm, float* x,
                            float (&pieces)[kRows][kMostPieces]) {
  const MixerStep& step = args.step;
  const int width = static_cast<int>(step.branches * step.inner), padded = padded_width(width);
  const int rows = static_cast<int>(min(step.rows - row, int64_t{kRows})),
            inner = static_cast<int>(step.inner);
  const int first = static_cast<int>(threadIdx.x) * kVec;
#pragma unroll
  for (int b = 0; b < kRows; ++b)
    for (int i = first; i < padded; i += kStride) {
      const bool there = b < rows && i < width;
      const int64_t at = (row + b) * step.projected_stride + i / inner * step.columns() + i % inner;
      const auto y = Pack<bf16, kVec>::of(static_cast<const bf16*>(step.y) + (row + b) * width + i, there);
      const auto z = Pack<bf16, kVec>::of(static_cast<const bf16*>(step.projected) + at, there);
      float g[kVec], squares = 0.f;
#pragma unroll
      for (int k = 0; k < kVec; ++k) {
        g[k] = y[k] * z[k] * sigmoid<bf16>(z[k]);
        squares += g[k] * g[k];
      }
      const float low[4] = {g[0], g[1], g[2], g[3]}, high[4] = {g[4], g[5], g[6], g[7]};
      float* const to = x + b * padded + place_of(i, padded);
      Pack<float, 4>::of(low).to(to);
      Pack<float, 4>::of(high).to(to + padded / 2);
      squares = warp_sum(squares);
      if (threadIdx.x % 32 == 0) pieces[b][i / kWarpChannels] = squares;
    }
  __syncthreads();
  const int span = width / static_cast<int>(args.spans), span_pieces = span / kWarpChannels;
  const int section = args.sections > 0 ? width / static_cast<int>(args.sections) : width;
#pragma unroll
  for (int b = 0; b < kRows; ++b)
    for (int i = first; i < width && b < rows; i += kStride) {
      float sum = 0.f;
      for (int p = i / span * span_pieces, end = p + span_pieces; p < end; ++p) sum += pieces[b][p];
      float factor = rsqrtf(sum / static_cast<float>(span) + args.eps);
      if (args.sections > 0)
        factor *= args.scale[(args.scale_by_token ? (row + b) * args.sections : 0) + i / section];
      const auto norm = i == first ? first_norm : NormPack::of(args.norm + i);
      float* const at = x + b * padded + place_of(i, padded);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        at[k] *= factor * norm[k];
        at[padded / 2 + k] *= factor * norm[4 + k];
      }
    }
  __syncthreads();
}

// Every block takes the gated norm of every row by itself.
template <int kRows>
__global__ void __launch_bounds__(kProductThreads, 2) gate_product_kernel(const GateProduct args) {
  extern __shared__ char shared[];
  ProductMemory& memory = *reinterpret_cast<ProductMemory*>(shared);
  float* const x = reinterpret_cast<float*>(shared + sizeof(ProductMemory));
  __shared__ float pieces[kRows][kMostPieces];
  const RowMatrix matrix{static_cast<const bf16*>(args.matrix.data), args.matrix.stride,
                         static_cast<int>(args.matrix.outputs), static_cast<int>(args.matrix.inputs)};
  RowStream stream(matrix, memory);
  const int first = static_cast<int>(threadIdx.x) * kVec;
  const auto first_norm = NormPack::of(args.norm + first, first < args.matrix.inputs);
  let_next_kernel_start();
  wait_for_earlier_kernels();

  gated_norms<kRows>(args, 0, first_norm, x, pieces);
  stream.multiply<kRows>(x, StoreRows<kRows>{static_cast<bf16*>(args.product), args.product_stride,
                                             static_cast<int>(args.step.rows), stream.step()});
  move_window(args, 0, args.step.rows, int64_t{blockIdx.x} * kProductThreads + threadIdx.x,
              int64_t{gridDim.x} * kProductThreads);
}

// A block a row.
__global__ void __launch_bounds__(kProductThreads) gate_kernel(const GateProduct args) {
  extern __shared__ char shared[];
  float* const x = reinterpret_cast<float*>(shared);
  __shared__ float pieces[1][kMostPieces];
  const int width = static_cast<int>(args.step.branches * args.step.inner), padded = padded_width(width);
  const int first = static_cast<int>(threadIdx.x) * kVec;
  const auto first_norm = NormPack::of(args.norm + first, first < width);
  let_next_kernel_start();
  wait_for_earlier_kernels();

  gated_norms<1>(args, blockIdx.x, first_norm, x, pieces);
  bf16* const out = static_cast<bf16*>(args.product) + int64_t{blockIdx.x} * args.product_stride;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kProductThreads)
    put(out + i, x[place_of(i, padded)]);
  move_window(args, blockIdx.x, int64_t{blockIdx.x} + 1, threadIdx.x, kProductThreads);
}

/// Whether the gate's part of the kernels serves them.
bool gate_serves(const GateProduct& args) {
  const MixerStep& step = args.step;
  const int64_t width = step.branches * step.inner, span = width / args.spans;
  return step.rows >= 1 && span % kWarpChannels == 0 && width <= kMostTurns * kStride &&
         step.inner % kVec == 0 && step.columns() % kVec == 0 && step.projected_stride % kVec == 0 &&
         in_packs(step.projected) && in_packs(args.norm) &&
         (args.sections == 0 || width / args.sections % kVec == 0);
}

}  // namespace

bool gate_product_serves(const GateProduct& args) {
  const DecodeMatrix& m = args.matrix;
  if (!gate_serves(args)) return false;
  if (m.data == nullptr) return true;
  return args.step.rows <= kMostProductRows && m.stride % 8 == 0 && in_packs(m.data) &&
         m.outputs < (int64_t{1} << 30) && for_product_rows(args.step.rows, [&]<int kRows>() {
           return product_shared_bytes(kRows, m.inputs) <= kMostSharedBytes;
         });
}

cudaError_t gate_product(const GateProduct& args, cudaStream_t stream) {
  if (args.matrix.data == nullptr) {
    const auto width = static_cast<int>(args.step.branches * args.step.inner);
    return launch_early(gate_kernel, dim3(static_cast<unsigned>(args.step.rows)), kProductThreads,
                        int64_t{4} * padded_width(width), stream, args);
  }
  return for_product_rows(args.step.rows, [&]<int kRows>() {
    return launch_early(gate_product_kernel<kRows>, dim3(multiprocessors()), kProductThreads,
                        product_shared_bytes(kRows, args.matrix.inputs), stream, args);
  });
}

}  // namespace dm::kernels::cuda
