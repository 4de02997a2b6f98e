#include "checkpoints/state.h"

#include <algorithm>

namespace dm::checkpoints {
namespace {

int64_t product(const std::vector<int64_t>& shape, size_t first_dim) {
  int64_t count = 1;
  for (size_t d = first_dim; d < shape.size(); ++d) count *= shape[d];
  return count;
}

/// Appends [begin, end) of the sub-tensor shape[dim:], which lies where `place` says in the dims before.
void append_boxes(const std::vector<int64_t>& shape, size_t dim, int64_t begin, int64_t end, const Box& place,
                  std::vector<Box>& boxes) {
  if (begin >= end) return;
  const int64_t row = product(shape, dim + 1);
  const auto rows = [&](int64_t first, int64_t count) {
    Box box = place;
    box.offset.push_back(first);
    box.shape.push_back(count);
    return box;
  };
  const auto inside_row = [&](int64_t first, int64_t last) {  // [first, last) lies within one row
    const int64_t r = first / row;
    append_boxes(shape, dim + 1, first - r * row, last - r * row, rows(r, 1), boxes);
  };

  if (begin % row != 0) {
    const int64_t head_end = std::min(end, (begin / row + 1) * row);
    inside_row(begin, head_end);
    begin = head_end;
  }
  const int64_t whole_end = std::max(begin, end / row * row);
  if (begin < whole_end) {
    Box box = rows(begin / row, (whole_end - begin) / row);
    for (size_t d = dim + 1; d < shape.size(); ++d) box.offset.push_back(0), box.shape.push_back(shape[d]);
    boxes.push_back(std::move(box));
  }
  if (whole_end < end) inside_row(whole_end, end);
}

}  // namespace

int64_t Box::count() const { return product(shape, 0); }

int64_t Piece::size_bytes() const { return box.count() * dm::size_bytes(dtype); }

std::vector<Box> boxes_of_range(const std::vector<int64_t>& global_shape, int64_t begin, int64_t end) {
  std::vector<Box> boxes;
  if (global_shape.empty() && begin < end) boxes.emplace_back();
  if (!global_shape.empty()) append_boxes(global_shape, 0, begin, end, {}, boxes);
  return boxes;
}

}  // namespace dm::checkpoints
