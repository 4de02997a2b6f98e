#pragma once
// Descriptions of tensors for the copy engine (tma.cuh), made on the host and passed to kernels by value.

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

/// bfloat16 [rows, length, columns], tokens `stride` elements apart, moved in boxes of 64 tokens and `box`
/// columns: 32 or 64, in the layout of Tile<64, box>.
cudaError_t make_tensor_map(CUtensorMap& map, const void* base, int64_t rows, int64_t length, int64_t columns,
                            int64_t stride, int box);

}  // namespace dm::kernels::cuda
