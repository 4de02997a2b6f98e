#pragma once
// Forward and backward over this rank's rows of one global batch.

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>

#include "data/loader.h"
#include "model/language_model.h"
#include "model/row_states.h"
#include "train/axis_traffic.h"
#include "train/gradient_exchange.h"
#include "train/weight_gather.h"

namespace dm::train {

struct LocalLoss {
  double nats = 0;     // summed over the counted targets of this rank's piece of its rows
  double targets = 0;  // how many those are
};

/// The passes over a batch, `micro_batch` rows at a time. On a GPU the passes over so many rows are recorded
/// as a graph when they come a second time.
class BatchPasses {
 public:
  /// The model outlives this object; its parameters' gradients stay where they are. `seed` is of the run's
  /// dropout, `record` as of kernels::Graph.
  BatchPasses(model::LanguageModel& model, int64_t micro_batch, uint64_t seed, bool record = true);

  /// Gradients are summed over the ranks by `reducer`, which outlives this object, while they are computed.
  void reduce_with(GradientExchange& reducer);

  /// Passes wait for weights that are on their way where they read them.
  void gather_with(WeightGather& gather);

  /// Rows go on from batch to batch: those of this rank begin as the batch before left `states`, which
  /// outlives this object.
  void carry(model::RowStates& states) { states_ = &states; }

  /// What the groups count of the passes; replayed ones are added to it. It outlives this object.
  void count(AxisTraffic& traffic) { traffic_ = &traffic; }

  /// The gradient of the summed loss is added to the leaves' gradients, and then summed over the ranks if
  /// there is a reducer. A rank without rows adds nothing. The caller divides by the count over all ranks,
  /// which no rank knows yet. Waits for the GPU.
  LocalLoss run(const data::Batch& batch);

  /// Nodes of the largest graph recorded so far.
  int64_t graph_nodes() const;

 private:
  struct Micro;  // the passes over one number of rows
  Micro& micro(int64_t rows, int64_t length);
  void pass(Micro& micro, int64_t first_token);  // first_token: of the rank's piece of the rows

  model::LanguageModel& model_;
  GradientExchange* reducer_ = nullptr;
  WeightGather* gather_ = nullptr;
  AxisTraffic* traffic_ = nullptr;
  model::RowStates* states_ = nullptr;
  int64_t micro_batch_;
  uint64_t seed_;
  bool record_;
  at::Tensor nats_;  // float64 scalar, on the model's device
  std::map<int64_t, std::shared_ptr<Micro>> micros_;
};

}  // namespace dm::train
