#pragma once
// The small parameters of a layer as its kernels take them: those of both branches behind each other, as
// decay rates, scaled. On a GPU all of a layer's are one launch each way instead of dozens, which would take
// longer to start than to run.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/vectors/vector_map.h"

namespace dm::kernels {

struct VectorPart {
  at::Tensor leaf;
  VectorMap map = VectorMap::same;
  double factor = 1, offset = 0;
};
/// What stands behind each other.
using VectorParts = std::vector<VectorPart>;

/// Each of `vectors` as a vector [n], differentiable in its leaves. On a GPU leaves are float32, and where
/// they have gradients already and stand there once, these are added to and autograd sees none. The same bits
/// on every call.
std::vector<at::Tensor> gather_vectors(const std::vector<VectorParts>& vectors);

}  // namespace dm::kernels
