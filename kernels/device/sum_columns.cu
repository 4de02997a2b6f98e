#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kColumns = 32;  // of a block
constexpr int kSlices = 32;   // of the rows; slice s adds rows s, s + 32, ..

struct Ranges {
  ColumnRange range[3];
};

__global__ void __launch_bounds__(kColumns* kSlices)
    sum_columns_kernel(const float* parts, int64_t rows, int64_t columns, const Ranges ranges) {
  __shared__ float slices[kSlices][kColumns];
  const int lane = threadIdx.x % kColumns, slice = threadIdx.x / kColumns;
  int64_t column = int64_t{blockIdx.x} * kColumns + lane;
  float sum = 0.f;
  if (column < columns)
#pragma unroll 8
    for (int64_t row = slice; row < rows; row += kSlices) sum += parts[row * columns + column];
  slices[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || column >= columns) return;
  double total = 0;
#pragma unroll
  for (int i = 0; i < kSlices; ++i) total += static_cast<double>(slices[i][lane]);
#pragma unroll
  for (const ColumnRange& range : ranges.range) {
    if (column >= 0 && column < range.count && range.to) range.to[column] = static_cast<float>(total);
    column -= range.count;
  }
}

}  // namespace

cudaError_t sum_columns(const float* parts, int64_t rows, std::initializer_list<ColumnRange> ranges,
                        cudaStream_t stream) {
  Ranges list{};
  std::copy(ranges.begin(), ranges.end(), list.range);
  int64_t columns = 0;
  for (const ColumnRange& range : ranges) columns += range.count;
  if (columns == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((columns + kColumns - 1) / kColumns);
  sum_columns_kernel<<<blocks, kColumns * kSlices, 0, stream>>>(parts, rows, columns, list);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
