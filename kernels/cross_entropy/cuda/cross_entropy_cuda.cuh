#pragma once
// The loss on the GPU, once a block of logits is there (semantics: kernels/cross_entropy/cross_entropy.h).

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct CrossEntropyRows {
  int64_t rows, vocabulary;
  int64_t stride;  // elements from row to row, a multiple of 16 bytes, as is the start of `logits`
  Element element;
  void* logits;            // [rows, V]; with `gradient` they become softmax(logits) - onehot(target)
  const int64_t* targets;  // [rows]
  const uint8_t* mask;     // [rows]: where 0 the loss is 0 and the gradient too
  bool gradient;
  float* nll;  // [rows], NaN (and the gradient with it) where the target is not in [0, V)
};

/// A thread block has one row, in shared memory where it fits (bfloat16: V up to 116,000), so that it is read
/// once; float32 inside.
cudaError_t cross_entropy_rows(const CrossEntropyRows& args, cudaStream_t stream);

/// *sum = Σ values, added in float64 and one order.
cudaError_t sum_losses(const float* values, int64_t count, float* sum, cudaStream_t stream);

}  // namespace dm::kernels::cuda
