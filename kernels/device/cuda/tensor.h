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

/// x [B, L, C] with rows that follow each other: the view of a projection's columns that it is, or a copy.
inline at::Tensor as_columns(const at::Tensor& x) {
  const bool follows = x.stride(2) == 1 && (x.size(0) == 1 || x.stride(0) == x.size(1) * x.stride(1));
  return follows ? x : x.contiguous();
}

/// [S] or [B, L, S], contiguous, from a scale of S sections that broadcasts to the latter.
inline at::Tensor whole_scale(const at::Tensor& scale, int64_t rows, int64_t length) {
  if (scale.dim() == 1 || scale.numel() == scale.size(-1)) return scale.reshape({-1}).contiguous();
  return scale.expand({rows, length, scale.size(-1)}).contiguous();
}

/// A launch that failed: the device is lost, or the kernel does not fit it.
inline void check_launch(cudaError_t error, const char* operation) {
  DM_REQUIRE(error == cudaSuccess, ExitCode::lost, "{}: the GPU answered '{}'", operation,
             cudaGetErrorString(error));
}

}  // namespace dm::kernels
