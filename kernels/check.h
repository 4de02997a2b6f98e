#pragma once
// Checks at the tensor boundary of an operation. They guard against mistakes of the caller's code
// (ExitCode::internal).
//
//   DM_CHECK_SHAPE("ssd", b, x.scalar_type(), batch, length, -1, d_state);
// throws "ssd: b is float32 [2, 8, 3, 4], expected float32 [2, 8, *, 5]" unless b has that dtype and shape.

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>

namespace dm::kernels {

/// Refuses a tensor that is undefined, neither on the CPU nor on a GPU, or of another dtype or shape; -1
/// accepts any extent there.
void check_shape(const char* operation, const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                 std::initializer_list<int64_t> shape, const char* file, int line);

/// Refuses dtypes that operations do not compute in: float32 and float64 are on the CPU, float32 and bfloat16
/// on a GPU.
void check_floating(const char* operation, const char* name, const at::Tensor& tensor, const char* file,
                    int line);

/// The dtype of the parameters that go with activations like `tensor`: the same on the CPU, float32 on a GPU.
at::ScalarType parameter_dtype(const at::Tensor& tensor);

/// The tensor itself where its last dim is contiguous, else a contiguous copy: what the operations read.
at::Tensor dense_rows(const at::Tensor& tensor);
/// The same as a matrix, [all dims but the last, the last]; a view wherever the strides allow.
at::Tensor dense_matrix(const at::Tensor& tensor);

/// "float32 [2, 8, 3]", for messages.
std::string describe(const at::Tensor& tensor);

}  // namespace dm::kernels

#define DM_CHECK_SHAPE(operation, tensor, dtype, ...) \
  ::dm::kernels::check_shape((operation), #tensor, (tensor), (dtype), {__VA_ARGS__}, __FILE__, __LINE__)
#define DM_CHECK_FLOATING(operation, tensor) \
  ::dm::kernels::check_floating((operation), #tensor, (tensor), __FILE__, __LINE__)
