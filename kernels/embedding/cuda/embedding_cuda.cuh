#pragma once
// Rows of a table on the GPU, and the sum of their gradients without atomics: the tokens are sorted by id
// (stably, so that equal ids keep their order), and every id's gradients are added up in that order, tile by
// tile of the sorted tokens.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct EmbeddingForward {
  int64_t tokens, vocabulary, width;
  Element element;     // of weight and y
  const int64_t* ids;  // [tokens]
  const void* weight;  // [V, D]
  void* y;             // [tokens, D]; NaN where the id is not in [0, V)
};

struct EmbeddingBackward {
  int64_t tokens, vocabulary, width;
  Element element;     // of dy
  const int64_t* ids;  // [tokens]; one that is not in [0, V) adds nothing
  const void* dy;      // [tokens, D]
  void* workspace;     // embedding_workspace_bytes()
  float* dweight;      // [V, D]: what is there is added to
};

/// tokens < 2^31.
int64_t embedding_workspace_bytes(int64_t tokens, int64_t vocabulary, int64_t width);
cudaError_t embedding_forward(const EmbeddingForward& args, cudaStream_t stream);
cudaError_t embedding_backward(const EmbeddingBackward& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
