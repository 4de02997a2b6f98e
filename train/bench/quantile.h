#pragma once
// The quantiles that timings are reported by.

#include <vector>

namespace dm::train {

/// The value of `sorted`, which is not empty, nearest to quantile q.
double quantile(const std::vector<double>& sorted, double q);

}  // namespace dm::train
