#pragma once
// Tensors as the rows that kernels read. Views of a wider tensor's columns are read where they are.

#include "kernels/device/cuda/tensor.h"
#include "kernels/device/rows.h"

namespace dm::kernels {

/// A tensor [rows, ..] whose other dims are dense, or a copy of it that is; keeps it alive.
class DenseRows {
 public:
  explicit DenseRows(const at::Tensor& tensor)
      : tensor_(tensor.size(0) == 0 || tensor.select(0, 0).is_contiguous() ? tensor : tensor.contiguous()) {}
  cuda::Rows rows() const { return {tensor_.const_data_ptr(), tensor_.stride(0), element_of(tensor_)}; }

 private:
  at::Tensor tensor_;
};

/// A tensor [B, L, width] as the matrix [B L, width] that token_rows() can tell of, or a copy of it.
inline at::Tensor dense_tokens(const at::Tensor& tensor) {
  const bool dense =
      tensor.stride(2) == 1 && (tensor.size(0) == 1 || tensor.stride(0) == tensor.size(1) * tensor.stride(1));
  return dense ? tensor : tensor.contiguous();
}
inline cuda::Rows token_rows(const at::Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.stride(1), element_of(tensor)};
}

}  // namespace dm::kernels
