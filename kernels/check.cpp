#include "kernels/check.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace dm::kernels {
namespace {

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return "float32";
    case at::kDouble: return "float64";
    case at::kBFloat16: return "bfloat16";
    case at::kInt: return "int32";
    case at::kLong: return "int64";
    case at::kByte: return "uint8";
    default: return at::toString(dtype);
  }
}

template <class Shape>
std::string shape_text(const Shape& shape) {
  std::string text;
  for (const int64_t extent : shape)
    text += (text.empty() ? "" : ", ") + (extent < 0 ? "*" : std::to_string(extent));
  return "[" + text + "]";
}

}  // namespace

at::ScalarType parameter_dtype(const at::Tensor& tensor) {
  return tensor.is_cuda() ? at::kFloat : tensor.scalar_type();
}

at::Tensor dense_rows(const at::Tensor& tensor) {
  return tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

at::Tensor dense_matrix(const at::Tensor& tensor) {
  return dense_rows(tensor).reshape({-1, tensor.size(-1)});
}

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  return dtype_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes()) +
         (tensor.is_cpu() ? "" : " on " + tensor.device().str());
}

void check_shape(const char* operation, const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                 std::initializer_list<int64_t> shape, const char* file, int line) {
  if (*name == '*') ++name;  // an optional: "*scale"
  bool fits = tensor.defined() && (tensor.is_cpu() || tensor.is_cuda()) && tensor.scalar_type() == dtype &&
              tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t dim = 0;
  for (const int64_t extent : shape) fits = fits && (extent < 0 || tensor.size(dim) == extent), ++dim;
  if (fits) return;
  throw Error(ExitCode::internal,
              fmt::format("{}: {} is {}, expected {} {}", operation, name, describe(tensor),
                          dtype_name(dtype), shape_text(shape)),
              file, line);
}

void check_floating(const char* operation, const char* name, const at::Tensor& tensor, const char* file,
                    int line) {
  if (*name == '*') ++name;
  const at::ScalarType dtype = tensor.defined() ? tensor.scalar_type() : at::kByte;
  if (tensor.defined() && tensor.is_cpu() && (dtype == at::kFloat || dtype == at::kDouble)) return;
  if (tensor.defined() && tensor.is_cuda() && (dtype == at::kFloat || dtype == at::kBFloat16)) return;
  throw Error(
      ExitCode::internal,
      fmt::format("{}: {} is {}, expected float32 or float64 on the CPU, float32 or bfloat16 on a GPU",
                  operation, name, describe(tensor)),
      file, line);
}

}  // namespace dm::kernels
