#pragma once
// The mask and what it leaves of x, one draw for four channels (kernels/dropout/dropout.h).

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct DropoutArgs {
  int64_t tokens, width;
  Element element;  // of x and y
  const void* x;    // [tokens, width]
  void* y;          // [tokens, width]
  const int64_t* samples;
  int64_t length, position, first;  // as of TokenPlaces
  uint32_t key[2];
  uint32_t threshold;
  float scale;
};

cudaError_t dropout(const DropoutArgs& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
