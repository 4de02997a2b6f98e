#include "kernels/ssd/cuda/tensor_map.cuh"

#include <cudaTypedefs.h>

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

}  // namespace

cudaError_t make_tensor_map(CUtensorMap& map, const void* base, int64_t rows, int64_t length, int64_t columns,
                            int64_t stride, int box) {
  if (encoder() == nullptr) return cudaErrorInsufficientDriver;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(length),
                              static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * 2,
                                static_cast<cuuint64_t>(stride * length) * 2};
  const cuuint32_t boxes[] = {static_cast<cuuint32_t>(box), 64, 1}, steps[] = {1, 1, 1};
  const CUresult result = encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(base), sizes,
                                    strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                    box == 32 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace dm::kernels::cuda
