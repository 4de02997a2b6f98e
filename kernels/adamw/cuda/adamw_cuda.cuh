#pragma once
// The update of kernels/adamw/adamw_cuda.h on raw memory.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/adamw/factors.h"

namespace dm::kernels::cuda {

struct IndexRange {
  int64_t begin, end;
};

struct AdamWArguments {
  float *weight, *m, *v;  // [count]
  const float* grad;      // [count]
  int64_t count;
  const IndexRange* decayed;  // [decayed_count], device memory, ascending and disjoint
  int64_t decayed_count;
  const AdamWFactors<float>* factors;  // device memory
};

/// Arrays that start at multiples of 16 bytes move 28 bytes an element in accesses of 16; others one by one.
cudaError_t adamw(const AdamWArguments& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
