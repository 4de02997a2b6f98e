#include "checkpoints/boxes.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace dm::checkpoints {
namespace {

// Boxes compared with each other before a manifest is called hostile; honest ones need a few for each piece.
constexpr int64_t kMaxComparisons = 20'000'000;

int64_t position(const Box& part, const Box& within) {
  int64_t flat = 0;
  for (size_t d = 0; d < part.shape.size(); ++d)
    flat = flat * within.shape[d] + (part.offset[d] - within.offset[d]);
  return flat;
}

bool overlap(const Box& a, const Box& b) {
  for (size_t d = 0; d < a.shape.size(); ++d)
    if (a.offset[d] >= b.offset[d] + b.shape[d] || b.offset[d] >= a.offset[d] + a.shape[d]) return false;
  return true;
}

}  // namespace

std::optional<int64_t> checked_bytes(const std::vector<int64_t>& shape, int64_t element_bytes) {
  if (shape.size() > kMaxDims) return std::nullopt;
  int64_t bytes = element_bytes, nonzero = element_bytes;  // the second bounds every partial product too
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(nonzero, std::max<int64_t>(extent, 1), &nonzero))
      return std::nullopt;
    if (nonzero > kMaxTensorBytes) return std::nullopt;
    bytes *= extent;
  }
  return bytes;
}

bool lies_inside(const Box& box, const std::vector<int64_t>& global_shape) {
  if (box.offset.size() != global_shape.size() || box.shape.size() != global_shape.size()) return false;
  for (size_t d = 0; d < global_shape.size(); ++d)
    if (box.offset[d] < 0 || box.shape[d] < 1 || box.shape[d] > global_shape[d] ||
        box.offset[d] > global_shape[d] - box.shape[d])
      return false;
  return true;
}

std::optional<Box> intersect(const Box& a, const Box& b) {
  Box both;
  for (size_t d = 0; d < a.shape.size(); ++d) {
    const int64_t begin = std::max(a.offset[d], b.offset[d]);
    const int64_t end = std::min(a.offset[d] + a.shape[d], b.offset[d] + b.shape[d]);
    if (begin >= end) return std::nullopt;
    both.offset.push_back(begin);
    both.shape.push_back(end - begin);
  }
  return both;
}

std::string partition_problem(const std::vector<int64_t>& global_shape, const std::vector<Box>& boxes) {
  // Disjoint boxes inside the tensor that have as many elements as it has leave none out.
  std::vector<const Box*> sorted;
  for (const Box& box : boxes) sorted.push_back(&box);
  std::sort(sorted.begin(), sorted.end(), [](const Box* a, const Box* b) { return a->offset < b->offset; });
  int64_t comparisons = 0;
  for (size_t i = 0; i < sorted.size(); ++i)
    for (size_t j = i + 1; j < sorted.size(); ++j) {
      const Box &a = *sorted[i], &b = *sorted[j];
      if (!a.offset.empty() && b.offset[0] >= a.offset[0] + a.shape[0])
        break;  // nor does any later one touch a
      if (overlap(a, b)) return fmt::format("pieces {} and {} overlap", text(a), text(b));
      if (++comparisons > kMaxComparisons) return "its pieces are too many and too scattered to be checked";
    }
  const int64_t held = std::accumulate(boxes.begin(), boxes.end(), int64_t{0},
                                       [](int64_t sum, const Box& box) { return sum + box.count(); });
  const int64_t wanted = Box{{}, global_shape}.count();
  return held == wanted ? "" : fmt::format("its pieces hold {} of its {} elements", held, wanted);
}

void for_each_run(const Box& part, const Box& source, const Box& target,
                  const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  // Dims from `inner` on are whole in both arrays, so a run spans them and the extent of the dim before.
  size_t inner = part.shape.size();
  while (inner > 0 && part.shape[inner - 1] == source.shape[inner - 1] &&
         part.shape[inner - 1] == target.shape[inner - 1])
    --inner;
  const size_t outer = inner == 0 ? 0 : inner - 1;  // dims before it are walked
  int64_t run = 1;
  for (size_t d = outer; d < part.shape.size(); ++d) run *= part.shape[d];

  Box at = part;
  while (true) {
    visit(position(at, source), position(at, target), run);
    size_t d = outer;
    while (d > 0 && ++at.offset[d - 1] == part.offset[d - 1] + part.shape[d - 1])
      at.offset[d - 1] = part.offset[d - 1], --d;
    if (d == 0) return;
  }
}

std::string text(const Box& box) {
  std::string ranges;  // also of a box that is none, which is then about to be refused
  for (size_t d = 0; d < std::max(box.shape.size(), box.offset.size()); ++d) {
    const int64_t begin = d < box.offset.size() ? box.offset[d] : 0;
    int64_t end = 0;
    if (__builtin_add_overflow(begin, d < box.shape.size() ? box.shape[d] : 0, &end)) end = INT64_MAX;
    ranges += fmt::format("{}{}:{}", d == 0 ? "" : ", ", begin, end);
  }
  return "[" + ranges + "]";
}

}  // namespace dm::checkpoints
