#pragma once
// How the fast kernels, made for heads of 32 or 64 channels and for 64 or 128 columns of B and C, serve other
// shapes:
//
// - A wider head is several. Channels of a head share Δ, a, D, B and C and nothing else, and all tensors hold
//   them side by side; only the gradients of Δ, a and D are sums over them.
// - A state of fewer columns is filled up with zeros, which the copy engine makes on its way: nothing more is
//   read or written.
// - One of more columns is several slices, one after the other: the state of each is its own; y, dx and the
//   gradients of Δ and a are sums over slices. A later slice adds what it finds of y and dx in memory to
//   its own before it rounds.

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

constexpr int64_t kWidestHead = 64;    // of the kernels: channels
constexpr int64_t kWidestSlice = 128;  // columns
// Served; each slice after the first rounds y and dx to bfloat16 once more.
constexpr int64_t kMostColumns = 256;

constexpr bool is_fast_shape(const SsdShape& shape) {
  return shape.head_dim % 32 == 0 && shape.state % 8 == 0 && shape.state <= kMostColumns;
}

/// The kernels' heads that one head is.
constexpr int64_t fold_of(const SsdShape& shape) {
  return shape.head_dim / (shape.head_dim % kWidestHead == 0 ? kWidestHead : 32);
}

/// The shape with the kernels' heads, which may be given as well.
constexpr SsdShape folded(SsdShape shape) {
  const int64_t fold = fold_of(shape);
  shape.heads *= fold;
  shape.head_dim /= fold;
  return shape;
}

/// Columns of B and C, of each group, that one launch takes.
struct StateSlice {
  int begin, count;
  __host__ __device__ bool first() const { return begin == 0; }
};

constexpr int64_t slices_of(const SsdShape& shape) { return (shape.state + kWidestSlice - 1) / kWidestSlice; }
constexpr StateSlice slice_at(const SsdShape& shape, int64_t index) {
  const int64_t begin = index * kWidestSlice;
  return {static_cast<int>(begin), static_cast<int>(std::min(shape.state - begin, kWidestSlice))};
}

/// Calls function.operator()<P, N>() of the instantiation for a slice.
template <typename Function>
void for_fast_kernel(const SsdShape& shape, const StateSlice& slice, Function function) {
  const bool wide = folded(shape).head_dim == kWidestHead;
  if (slice.count > 64)
    wide ? function.template operator()<64, 128>() : function.template operator()<32, 128>();
  else
    wide ? function.template operator()<64, 64>() : function.template operator()<32, 64>();
}

}  // namespace dm::kernels::cuda
