#pragma once
// How long each operation of a model takes by itself, forward and backward, beside the floor of its stage of
// the cost model.

#include <string>
#include <vector>

#include "core/json.h"
#include "train/bench/step_bench.h"

namespace dm::train {

struct OperationTime {
  std::string name;  // a stage of the cost model: "conv"
  double forward_us = 0, backward_us = 0;
  double floor_forward_us = 0, floor_backward_us = 0;  // 0: the cost model has none, or it is not known
  Json json() const;
};

struct OpsBenchResult {
  std::string device;
  std::string missing;  // why there are no floors
  int64_t tokens = 0;
  std::vector<OperationTime> operations;
  Json json() const;
};

/// The operations of the model's first layer with a mixer and of its two ends, at `rows` times `length`
/// tokens in documents of `document_tokens`, on random values; medians of `repetitions`. On a GPU each is
/// recorded as a graph. Of a differential layer both branches at once, as it runs them.
OpsBenchResult bench_ops(const model::ModelConfig& model, const StepBenchConfig& config);

}  // namespace dm::train
