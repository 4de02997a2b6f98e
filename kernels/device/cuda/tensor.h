#pragma once
// From tensors to what CUDA kernels take. For the *_cuda.cpp files, which only CUDA builds compile.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/device/element.h"

namespace dm::kernels {

inline cuda::Element element_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? cuda::Element::kFloat32 : cuda::Element::kBFloat16;
}

inline cudaStream_t current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

/// Scratch memory on the device of `like`, uninitialised.
inline at::Tensor device_bytes(int64_t bytes, const at::Tensor& like) {
  return at::empty({bytes}, like.options().dtype(at::kByte));
}

/// A launch that failed: the device is lost, or the kernel does not fit it.
inline void check_launch(cudaError_t error, const char* operation) {
  DM_REQUIRE(error == cudaSuccess, ExitCode::lost, "{}: the GPU answered '{}'", operation,
             cudaGetErrorString(error));
}

}  // namespace dm::kernels
