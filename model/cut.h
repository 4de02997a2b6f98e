#pragma once
// How a parameter is dealt out over the tensor axis. A layer or mixer declares it beside the parameter.

#include <cstdint>
#include <vector>

namespace dm::model {

/// Consecutive rows, columns, heads or channels [begin, end).
struct Run {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
  bool empty() const { return begin == end; }
  bool operator==(const Run&) const = default;
};

/// The runs of one dim that each tensor rank holds, in the order in which they stand in its tensor. Two runs
/// are the same or have nothing in common; along dims other than 0 a rank has one run at most.
struct Cut {
  int64_t dim = 0;
  std::vector<std::vector<Run>> ranks;  // by tensor rank; none at all: the whole parameter on every rank
  int64_t padded = 0;                   // extent of every rank's tensor, zeros behind its runs; 0: no padding
};

/// Of `branches` mixers with `units` heads or channels each, standing one after the other and dealt out in tp
/// equal consecutive parts: what of `branch` each rank gets, within that branch.
std::vector<Run> deal(int64_t units, int64_t branches, int64_t branch, int64_t tp);

/// Rows for cut_along(): `width` rows for each unit, the first at `offset`, behind those that a rank has
/// already.
void append(Cut& cut, const std::vector<Run>& units, int64_t width, int64_t offset);

/// Each unit is `width` consecutive rows (dim 0) or columns (dim 1).
Cut cut_along(int64_t dim, const std::vector<Run>& units, int64_t width = 1);
/// The whole parameter on the ranks that have any of the units, nothing of it on the others.
Cut where_any(const std::vector<Run>& units, int64_t extent);
/// The whole parameter on the first of tp ranks.
Cut on_first(int64_t extent, int64_t tp);

}  // namespace dm::model
