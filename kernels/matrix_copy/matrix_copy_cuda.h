#pragma once
// matrix_copy.h on the GPU.

#include "kernels/matrix_copy/matrix_copy.h"

namespace dm::kernels {

/// Copies what its kernel serves of `copies`, and returns the rest.
std::vector<MatrixCopy> copy_matrices_cuda(const std::vector<MatrixCopy>& copies);

}  // namespace dm::kernels
