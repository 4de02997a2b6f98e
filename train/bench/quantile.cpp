#include "train/bench/quantile.h"

#include "core/error.h"

namespace dm::train {

double quantile(const std::vector<double>& sorted, double q) {
  DM_CHECK(!sorted.empty(), "a quantile of nothing");
  return sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5)];
}

}  // namespace dm::train
