#pragma once
// Descriptions of tensors for the copy engine (tma.cuh), made on the host and passed to kernels by value.

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

/// Of bfloat16 tensors whose tokens are `stride` elements apart, moved in boxes of 64 tokens; what a box has
/// outside of the tensor is zero.
/// [B, L, H, P] as rows of columns, in boxes of a head's: the layout of Tile<64, P>. P 32 or 64.
cudaError_t make_channel_map(CUtensorMap& map, const void* base, const SsdShape& shape, int64_t stride);
/// [B, L, G, N], in boxes of 64 columns of a group: a block of Tile<64, 64 i>.
cudaError_t make_state_map(CUtensorMap& map, const void* base, const SsdShape& shape, int64_t stride);

}  // namespace dm::kernels::cuda
