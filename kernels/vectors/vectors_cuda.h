#pragma once
// vectors.h on the GPU.

#include "kernels/vectors/vectors.h"

namespace dm::kernels {

constexpr size_t kMostVectorParts = 16;  // of one call

std::vector<at::Tensor> gather_vectors_cuda(const std::vector<VectorParts>& vectors);

}  // namespace dm::kernels
