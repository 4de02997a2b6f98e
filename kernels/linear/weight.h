#pragma once
// A weight matrix as products take it: one parameter, or several stacked so that one product serves them all.

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace dm::kernels {

struct Weight {
  /// Where the gradient of a block of `value` goes when it does not go through autograd.
  struct Part {
    at::Tensor gradient;  // float32 [rows, columns], contiguous; the block's gradient is added to it
    int64_t row, column;  // where the block starts in `value`
  };

  at::Tensor value;         // [O, I], in the dtype of the activations
  std::vector<Part> parts;  // empty: `value` is differentiable, or needs no gradient

  Weight() = default;
  Weight(at::Tensor tensor) : value(std::move(tensor)) {}  // NOLINT: a plain tensor is a weight of one part
  Weight(at::Tensor tensor, std::vector<Part> parts) : value(std::move(tensor)), parts(std::move(parts)) {}
};

}  // namespace dm::kernels
