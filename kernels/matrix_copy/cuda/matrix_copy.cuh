#pragma once
// Many matrices of float32 into bfloat16 by one launch (kernels/matrix_copy/matrix_copy.h).

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dm::kernels::cuda {

constexpr int kCopyPack = 8;      // elements that a thread moves at a time
constexpr int kMostCopies = 100;  // of a launch: what fits the parameters of a kernel

struct MatrixCopyRange {
  const float* from;  // contiguous
  void* to;           // bfloat16, rows `stride` elements apart
  int32_t packs, row_packs;
  int64_t stride;
};

struct MatrixCopies {
  MatrixCopyRange of[kMostCopies];
  int count;
};

cudaError_t copy_matrices(const MatrixCopies& copies, cudaStream_t stream);

}  // namespace dm::kernels::cuda
