#pragma once
// Matrices copied into others, of another dtype or wider: what products read of float32 parameters.

#include <ATen/core/Tensor.h>

#include <vector>

namespace dm::kernels {

struct MatrixCopy {
  at::Tensor from, to;  // [R, C]; the rows of `to` may be any distance apart
};

/// Each in place, rounded to nearest. On a GPU those of float32 into bfloat16 whose rows can be moved in
/// accesses of 16 bytes take one launch together, on the current stream.
void copy_matrices(const std::vector<MatrixCopy>& copies);

}  // namespace dm::kernels
