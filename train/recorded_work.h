#pragma once
// Work that comes again and again, on a GPU as a graph, and what the groups count of it.

#include <functional>

#include "kernels/device/gpu.h"
#include "train/axis_traffic.h"

namespace dm::train {

class RecordedWork {
 public:
  /// `record` as of kernels::Graph.
  explicit RecordedWork(bool record) : graph_(record) {}

  /// What `work` exchanges is counted by `traffic`, where there is one, each time: a replay, of which the
  /// groups know nothing, is added as the last run that they saw.
  void run(AxisTraffic* traffic, const std::function<void()>& work);
  const kernels::Graph& graph() const { return graph_; }

 private:
  kernels::Graph graph_;
  AxisTraffic exchanged_;
};

}  // namespace dm::train
