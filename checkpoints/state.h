#pragma once
// What a checkpoint holds: logical tensors by name, in pieces, and a JSON document. Knows neither model nor
// optimizer.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"

namespace dm::checkpoints {

/// An axis-aligned box of a logical tensor. A scalar has no dims.
struct Box {
  std::vector<int64_t> offset;
  std::vector<int64_t> shape;
  int64_t count() const;
  bool operator==(const Box&) const = default;
};

/// A contiguous row-major array that holds (saving) or shall receive (loading) a box of the tensor `name`.
/// Optimizer slots are tensors of their own: "adamw.m/NAME".
struct Piece {
  std::string name;
  DType dtype;
  std::vector<int64_t> global_shape;
  Box box;
  void* data;  // box.count() elements; not written when saving
  int64_t size_bytes() const;
};

/// Fills pieces from one place or another.
using LoadPieces = std::function<void(const std::vector<Piece>&)>;

/// The flat range [begin, end) of a row-major tensor as boxes: none, or one to three for a matrix (part of a
/// row, whole rows, part of a row). Tensors of more than two dims count as [first, rest] when range bounds
/// allow it; see state.cpp.
std::vector<Box> boxes_of_range(const std::vector<int64_t>& global_shape, int64_t begin, int64_t end);

}  // namespace dm::checkpoints
