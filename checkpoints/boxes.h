#pragma once
// Arithmetic of boxes: what two have in common, whether many make up a tensor, and how an overlap lies in
// memory.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/state.h"

namespace dm::checkpoints {

/// Bounds on what a manifest may claim, so that no arithmetic on it can overflow.
inline constexpr size_t kMaxDims = 8;
inline constexpr int64_t kMaxTensorBytes = int64_t{1} << 60;

/// nullopt unless there are at most kMaxDims extents, none negative, and the product with `element_bytes` is
/// in bounds.
std::optional<int64_t> checked_bytes(const std::vector<int64_t>& shape, int64_t element_bytes);

/// Whether the box has the tensor's rank, at least one element and lies inside. The shape must have passed
/// checked_bytes.
bool lies_inside(const Box& box, const std::vector<int64_t>& global_shape);

std::optional<Box> intersect(const Box& a, const Box& b);

/// "" when the boxes, each of which lies inside, hold every element exactly once; else what is wrong.
std::string partition_problem(const std::vector<int64_t>& global_shape, const std::vector<Box>& boxes);

/// Calls visit(source, target, count) for every longest run of elements of `part` that is contiguous in both
/// of the row-major arrays that hold the boxes `source` and `target`; positions are elements from each
/// array's start, source positions ascend.
void for_each_run(const Box& part, const Box& source, const Box& target,
                  const std::function<void(int64_t source, int64_t target, int64_t count)>& visit);

/// "[0:4, 2:6]"
std::string text(const Box& box);

}  // namespace dm::checkpoints
