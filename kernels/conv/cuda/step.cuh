#pragma once
// One token of decoding through the convolution on the GPU, in one launch.

#include <cuda_runtime_api.h>

#include "kernels/device/rows.h"

namespace dm::kernels::cuda {

struct ConvStep {
  int64_t rows, channels, width;  // B, C, W
  Rows x;                         // [B, C]
  const float* weight;            // [C, W]
  const float* bias;              // [C]
  void* window;                   // [B, W - 1, C], moved on by one token
  Element window_element;
  void* y;  // [B, C], contiguous, in the element of x
};

cudaError_t conv_step(const ConvStep& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
