#pragma once
// Short vectors gathered by one launch, and their gradients added by another (kernels/vectors/vectors.h).

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/vectors/vector_map.h"

namespace dm::kernels::cuda {

struct VectorRange {
  const float* leaf;
  float* other;           // where the mapped vector goes; of gradients, the leaf's, which is added to
  const float* gradient;  // of the mapped vector
  int64_t count;          // of the leaf
  VectorMap map;
  float factor, offset;
};

struct VectorRanges {
  VectorRange of[16];
  int count;
};

cudaError_t gather_vectors(const VectorRanges& ranges, cudaStream_t stream);
cudaError_t add_vector_gradients(const VectorRanges& ranges, cudaStream_t stream);

}  // namespace dm::kernels::cuda
