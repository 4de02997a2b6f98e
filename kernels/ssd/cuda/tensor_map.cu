#include "kernels/ssd/cuda/tensor_map.cuh"

#include <cudaTypedefs.h>

#include <algorithm>

namespace dm::kernels::cuda {
namespace {

/// The driver's function by way of the runtime, so that nothing links against the driver.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const PFN_cuTensorMapEncodeTiled_v12000 function = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                         &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
      entry = nullptr;
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry);
  }();
  return function;
}

/// bfloat16 `sizes`, dims after the first `strides` bytes apart, in boxes of 64 tokens and `box` columns.
template <int kDims>
cudaError_t encode(CUtensorMap& map, const void* base, const cuuint64_t (&sizes)[kDims],
                   const cuuint64_t (&strides)[kDims - 1], const cuuint32_t (&boxes)[kDims]) {
  if (encoder() == nullptr) return cudaErrorInsufficientDriver;
  cuuint32_t steps[kDims];
  std::fill_n(steps, kDims, 1);
  const CUresult result = encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDims, const_cast<void*>(base),
                                    sizes, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                    boxes[0] == 32 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

cuuint64_t size(int64_t count) { return static_cast<cuuint64_t>(count); }
cuuint64_t bytes(int64_t elements) { return static_cast<cuuint64_t>(elements) * 2; }

}  // namespace

cudaError_t make_channel_map(CUtensorMap& map, const void* base, const SsdShape& shape, int64_t stride) {
  if (shape.head_dim != 32 && shape.head_dim != 64) return cudaErrorInvalidValue;
  const cuuint64_t sizes[] = {size(shape.heads * shape.head_dim), size(shape.length), size(shape.rows)};
  const cuuint64_t strides[] = {bytes(stride), bytes(stride * shape.length)};
  const cuuint32_t box = shape.head_dim == 32 ? 32 : 64;
  return encode(map, base, sizes, strides, {box, 64, 1});
}

cudaError_t make_state_map(CUtensorMap& map, const void* base, const SsdShape& shape, int64_t stride) {
  const cuuint64_t sizes[] = {size(shape.state), size(shape.groups), size(shape.length), size(shape.rows)};
  const cuuint64_t strides[] = {bytes(shape.state), bytes(stride), bytes(stride * shape.length)};
  return encode(map, base, sizes, strides, {64, 1, 64, 1});
}

}  // namespace dm::kernels::cuda
