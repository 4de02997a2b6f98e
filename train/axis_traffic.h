#pragma once
// What a rank exchanges, by what it is for.

#include <string>
#include <utility>
#include <vector>

#include "core/traffic.h"

namespace dm::train {

struct AxisTraffic {
  Traffic data;     // gradients and weights, over the ranks that hold the same of them
  Traffic context;  // along rows that several ranks share
  Traffic tensor;   // inside layers that several ranks share
  Traffic control;  // decisions and texts, in host memory

  /// All of them, with their names.
  std::vector<std::pair<const char*, const Traffic*>> axes() const;
  int64_t sent() const;
  AxisTraffic& operator+=(const AxisTraffic& other);
  /// What came since `before`, an earlier state of this one.
  AxisTraffic since(const AxisTraffic& before) const;
};

/// Where the bytes of two differ, in however many calls: "tensor all-gather: 4096 bytes, expected 8192"; ""
/// where they do not.
std::string first_difference(const AxisTraffic& traffic, const AxisTraffic& expected);

}  // namespace dm::train
