#include "kernels/matrix_copy/cuda/matrix_copy.cuh"

#include <limits>

#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256, kEach = 4;       // packs of a thread
constexpr int kBlockPacks = kThreads * kEach;  // of one matrix

struct Launch {
  MatrixCopies copies;
  int32_t first_block[kMostCopies];  // of each matrix
};
static_assert(sizeof(Launch) <= 4096, "a kernel's parameters");
constexpr int kFirstStep = 64;  // of the search for a block's matrix
static_assert(kMostCopies <= 2 * kFirstStep);

__global__ void __launch_bounds__(kThreads) copy_matrices_kernel(const __grid_constant__ Launch launch) {
  const auto block = static_cast<int32_t>(blockIdx.x);
  int which = 0;  // the last matrix that begins here or before
  for (int step = kFirstStep; step > 0; step /= 2)
    if (which + step < launch.copies.count && launch.first_block[which + step] <= block) which += step;
  const MatrixCopyRange& range = launch.copies.of[which];
  const int32_t begin = (block - launch.first_block[which]) * kBlockPacks + static_cast<int32_t>(threadIdx.x);
  Pack<float, kCopyPack> from[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int32_t pack = begin + i * kThreads;
    from[i] = Pack<float, kCopyPack>::of(range.from + int64_t{pack} * kCopyPack, pack < range.packs);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int32_t pack = begin + i * kThreads;
    if (pack >= range.packs) break;
    float values[kCopyPack];
#pragma unroll
    for (int k = 0; k < kCopyPack; ++k) values[k] = from[i][k];
    const int32_t row = pack / range.row_packs, column = pack - row * range.row_packs;
    Pack<bf16, kCopyPack>::of(values).to(static_cast<bf16*>(range.to) + row * range.stride +
                                         column * kCopyPack);
  }
}

}  // namespace

cudaError_t copy_matrices(const MatrixCopies& copies, cudaStream_t stream) {
  Launch launch{copies, {}};
  int64_t blocks = 0;
  for (int i = 0; i < copies.count; ++i) {
    launch.first_block[i] = static_cast<int32_t>(blocks);
    blocks += (copies.of[i].packs + kBlockPacks - 1) / kBlockPacks;
  }
  if (blocks == 0) return cudaSuccess;
  if (blocks > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidConfiguration;
  copy_matrices_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(launch);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
