#include "kernels/matrix_copy/matrix_copy.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/matrix_copy/matrix_copy_cuda.h"

namespace dm::kernels {

void copy_matrices(const std::vector<MatrixCopy>& copies) {
  for (const MatrixCopy& copy : copies)
    DM_CHECK(copy.from.dim() == 2 && copy.from.sizes() == copy.to.sizes(), "copy_matrices: {} into {}",
             describe(copy.from), describe(copy.to));
  const bool on_gpu = !copies.empty() && copies.front().to.is_cuda();
  for (const MatrixCopy& copy : on_gpu ? copy_matrices_cuda(copies) : copies) {
    at::Tensor to = copy.to;
    to.copy_(copy.from);
  }
}

}  // namespace dm::kernels
