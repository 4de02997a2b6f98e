#include "kernels/token_lambda/cuda/token_lambda.cuh"

#include "kernels/device/elements.cuh"
#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostLanes = 128;       // threads beside each other on a token's λs
constexpr int64_t kMostParts = 1024;  // blocks of the backward pass, each with a sum of dbias

template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const TokenLambdaShape shape, const T* columns, int64_t stride, const float* bias,
                   float* sections) {
  const int64_t all = shape.tokens * shape.count;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < all;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t token = i / shape.count, column = i - token * shape.count;
    const float lambda = 1.f / (1.f + expf(-(to_float(columns[token * stride + column]) + bias[column])));
    float* const to = sections + (shape.first ? 2 : 1) * token * shape.count + column;
    if (shape.first) to[0] = 1.f;
    to[shape.first ? shape.count : 0] = -lambda;
  }
}

// A block has consecutive tokens, `rows` at a time: row r of them takes tokens r, r + rows, ..; `lanes`
// threads take the λs of a token, `lanes` at a time.
template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const TokenLambdaShape shape, int lanes, int64_t each, const float* sections,
                    const float* dsections, T* dcolumns, int64_t stride, float* parts) {
  __shared__ float sums[kThreads];
  const int lane = static_cast<int>(threadIdx.x) % lanes, row = static_cast<int>(threadIdx.x) / lanes,
            rows = kThreads / lanes;
  const int64_t begin = blockIdx.x * each, end = min(begin + each, shape.tokens);
  const int64_t width = (shape.first ? 2 : 1) * shape.count, second = shape.first ? shape.count : 0;
  for (int64_t column = lane; column - lane < shape.count; column += lanes) {
    float sum = 0.f;
    if (column < shape.count)
#pragma unroll 4
      for (int64_t token = begin + row; token < end; token += rows) {
        const int64_t at = token * width + second + column;
        const float lambda = -sections[at], d = -dsections[at] * lambda * (1.f - lambda);
        put(dcolumns + token * stride + column, d);
        sum += d;
      }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (row == 0 && column < shape.count) {
      for (int r = 1; r < rows; ++r) sum += sums[r * lanes + lane];
      parts[blockIdx.x * shape.count + column] = sum;
    }
    __syncthreads();
  }
}

int64_t tokens_each(const TokenLambdaShape& shape) { return (shape.tokens + kMostParts - 1) / kMostParts; }
int64_t part_count(const TokenLambdaShape& shape) {
  return (shape.tokens + tokens_each(shape) - 1) / tokens_each(shape);
}

}  // namespace

cudaError_t token_lambda(const TokenLambdaShape& shape, const void* columns, int64_t stride,
                         const float* bias, float* sections, cudaStream_t stream) {
  if (shape.tokens == 0) return cudaSuccess;
  return for_element(shape.element, [&](auto element) {
    using T = decltype(element);
    const int64_t resident = resident_blocks(forward_kernel<T>, kThreads);
    if (resident == 0) return cudaErrorInvalidDevice;
    const int64_t wanted = (shape.tokens * shape.count + kThreads - 1) / kThreads;
    forward_kernel<T><<<static_cast<unsigned>(std::min(wanted, resident)), kThreads, 0, stream>>>(
        shape, static_cast<const T*>(columns), stride, bias, sections);
    return cudaGetLastError();
  });
}

int64_t token_lambda_parts(const TokenLambdaShape& shape) {
  return shape.tokens == 0 ? 0 : part_count(shape) * shape.count;
}

cudaError_t token_lambda_backward(const TokenLambdaShape& shape, const float* sections,
                                  const float* dsections, void* dcolumns, int64_t stride, float* dbias,
                                  float* parts, cudaStream_t stream) {
  if (shape.tokens == 0) return cudaMemsetAsync(dbias, 0, static_cast<size_t>(shape.count) * 4, stream);
  int lanes = 1;
  while (lanes < shape.count && lanes < kMostLanes) lanes *= 2;
  const cudaError_t error = for_element(shape.element, [&](auto element) {
    using T = decltype(element);
    backward_kernel<T><<<static_cast<unsigned>(part_count(shape)), kThreads, 0, stream>>>(
        shape, lanes, tokens_each(shape), sections, dsections, static_cast<T*>(dcolumns), stride, parts);
    return cudaGetLastError();
  });
  if (error != cudaSuccess) return error;
  return sum_columns(parts, part_count(shape), {{dbias, shape.count}}, stream);
}

}  // namespace dm::kernels::cuda
