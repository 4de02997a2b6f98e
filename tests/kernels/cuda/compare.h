#pragma once
// What the tests of operations on a GPU share: the same public operation on GPU tensors and, at the same
// rounded inputs, on the CPU in float64.

#include "tests/kernels/support.h"

namespace dm::kernels::test {

/// An input: its values, and the dtype that it has on the GPU (integers stay what they are).
struct GpuInput {
  const char* name;
  at::Tensor value;  // on the CPU; may be undefined
  at::ScalarType dtype;
};
using GpuInputs = std::vector<GpuInput>;

/// Bars of relative_error().
struct Bars {
  double outputs, gradients;
};

/// f's outputs and gradients on the GPU within `bars` of those on the CPU in float64, twice with the same
/// bits, on memory that held NaN. Gradients are those of Σ <outputs_i, w_i>, w_i normal draws in the dtype of
/// the output; `used` says which outputs take part (empty: all).
void expect_gpu_close(const std::string& what, const Function& f, const GpuInputs& inputs, const Bars& bars,
                      const std::vector<bool>& used = {});

/// One comparison of it, for results that did not come from autograd. The largest error of every kind of
/// comparison is printed when all tests have run, a line each.
void expect_gpu_close(const std::string& what, const at::Tensor& got, const at::Tensor& expected, double bar);

/// The last row of what `f` makes of tensors [B, ..] of more than 2^31 elements, and of its gradients in
/// them, has the bits that `f` gives for that row alone.
void expect_last_row_alone(const Function& f, const Tensors& inputs);

/// `value` in float64 as it is on the GPU in `dtype`.
at::Tensor rounded(const at::Tensor& value, at::ScalarType dtype);

inline const char* short_name(at::ScalarType dtype) { return dtype == at::kBFloat16 ? "bf16" : "fp32"; }

}  // namespace dm::kernels::test
