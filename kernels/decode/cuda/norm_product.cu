#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/decode/cuda/row_products.cuh"
#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kEach = 4, kStride = kEach * kProductThreads;  // channels of a thread, of the block

// Every block takes the norm of every row by itself: that is quicker than a kernel of its own.
template <int kRows>
__global__ void __launch_bounds__(kProductThreads, 2) norm_product_kernel(const NormProduct args) {
  extern __shared__ char shared[];
  ProductMemory& memory = *reinterpret_cast<ProductMemory*>(shared);
  float* const x = reinterpret_cast<float*>(shared + sizeof(ProductMemory));
  __shared__ float slots[kProductWarps][kRows];
  const RowMatrix matrix{static_cast<const bf16*>(args.matrix.data), args.matrix.stride,
                         static_cast<int>(args.matrix.outputs), static_cast<int>(args.matrix.inputs)};
  RowStream stream(matrix, memory);
  // The weights of the norms are no input of this token: on their way before it is there.
  const int first = static_cast<int>(threadIdx.x) * kEach;
  const auto first_weight = Pack<float, kEach>::of(args.weight + first, first < args.width);
  const auto first_subln =
      Pack<float, kEach>::of(args.subln + first, first < args.width && args.subln != nullptr);
  let_next_kernel_start();
  wait_for_earlier_kernels();

  const int width = static_cast<int>(args.width), padded = padded_width(width);
  const int rows = static_cast<int>(args.rows);
  const float mean_of = 1.f / static_cast<float>(width);
  const bf16* const y = static_cast<const bf16*>(args.y);
  float root_of_y[kRows], squares[kRows] = {};
  Pack<float, kEach> first_h[kRows];  // asked for before y's sum
#pragma unroll
  for (int b = 0; b < kRows; ++b)
    first_h[b] = Pack<float, kEach>::of(args.h + int64_t{b} * width + first, b < rows && first < width);
  if (y != nullptr && args.subln != nullptr) {
#pragma unroll
    for (int b = 0; b < kRows; ++b) {
      root_of_y[b] = 0.f;
      for (int i = first; i < width; i += kStride) {
        const auto v = Pack<bf16, kEach>::of(y + int64_t{b} * width + i, b < rows);
#pragma unroll
        for (int k = 0; k < kEach; ++k) root_of_y[b] += v[k] * v[k];
      }
    }
    block_sums(root_of_y, slots);
#pragma unroll
    for (int b = 0; b < kRows; ++b) root_of_y[b] = rsqrtf(root_of_y[b] * mean_of + args.eps);
  }
#pragma unroll
  for (int b = 0; b < kRows; ++b)
    for (int i = first; i < padded; i += kStride) {
      const bool there = b < rows && i < width;
      const int64_t at = int64_t{b} * width + i;
      const auto h = i == first ? first_h[b] : Pack<float, kEach>::of(args.h + at, there);
      const auto v = Pack<bf16, kEach>::of(y + at, there && y != nullptr);
      const auto subln =
          i == first ? first_subln : Pack<float, kEach>::of(args.subln + i, there && args.subln != nullptr);
      float sum[kEach];
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        sum[k] = h[k] + (args.subln != nullptr ? v[k] * root_of_y[b] * subln[k] : v[k]);
        squares[b] += sum[k] * sum[k];
      }
      const auto stored = Pack<float, kEach>::of(sum);
      stored.to(x + b * padded + place_of(i, padded));
      if (blockIdx.x == 0 && there && y != nullptr) stored.to(args.h_next + at);
    }
  block_sums(squares, slots);
#pragma unroll
  for (int b = 0; b < kRows; ++b) {
    const float root = rsqrtf(squares[b] * mean_of + args.eps);
    for (int i = first; i < width; i += kStride) {
      const auto weight = i == first ? first_weight : Pack<float, kEach>::of(args.weight + i);
      float* const at = x + b * padded + place_of(i, padded);
#pragma unroll
      for (int k = 0; k < kEach; ++k) at[k] *= root * weight[k];
    }
  }
  __syncthreads();
  stream.multiply<kRows>(
      x, StoreRows<kRows>{static_cast<bf16*>(args.product), args.product_stride, rows, stream.step()});
}

}  // namespace

bool norm_product_serves(const NormProduct& args) {
  const DecodeMatrix& m = args.matrix;
  return args.rows >= 1 && args.rows <= kMostProductRows && args.width % 8 == 0 && m.stride % 8 == 0 &&
         in_packs(m.data) && in_packs(args.h) && in_packs(args.y) && in_packs(args.subln) &&
         in_packs(args.weight) && m.outputs < (int64_t{1} << 30) &&
         for_product_rows(args.rows, [&]<int kRows>() {
           return product_shared_bytes(kRows, args.width) <= kMostSharedBytes;
         });
}

cudaError_t norm_product(const NormProduct& args, cudaStream_t stream) {
  return for_product_rows(args.rows, [&]<int kRows>() {
    return launch_early(norm_product_kernel<kRows>, dim3(multiprocessors()), kProductThreads,
                        product_shared_bytes(kRows, args.width), stream, args);
  });
}

}  // namespace dm::kernels::cuda
