#pragma once
// What one rank exchanges in one optimizer step, predicted from sizes alone: no tensor is made and no rank
// asked. `diffmamba parity` holds it to the bytes that its steps are counted to exchange, on every layout.

#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "model/config.h"
#include "train/axis_traffic.h"
#include "train/buckets.h"
#include "train/groups.h"

namespace dm::train {

/// Where a rank stands, and how many stand where.
struct RankPlace {
  int64_t dp = 1, cp = 1, tp = 1;
  int64_t dp_rank = 0, cp_rank = 0, tp_rank = 0;
  int64_t shard = 1;  // ranks of dp x cp that the optimizer's state is cut over

  static RankPlace of(const Groups& groups);
  int64_t replicas() const { return dp * cp; }
  int64_t across() const { return replicas() / shard; }
  int64_t world() const { return replicas() * tp; }
};

/// What a step works on, over all ranks.
struct StepSize {
  int64_t rows;         // of the global batch
  int64_t length;       // tokens of a row
  int64_t micro_batch;  // rows of a pass
  DType weights = DType::f32;
  DType activations = DType::f32;
  int64_t bucket_bytes = kBucketBytes;
  bool streams = false;  // rows carry their state from step to step
  int64_t zero = 1;      // ZeRO stage
};

/// Rows of the global batch that the ranks of place.dp_rank work on.
int64_t own_rows(const RankPlace& place, const StepSize& size);

/// What of a model a rank holds: a plan looks at it many times.
struct RankParameters {
  RankParameters(const model::ModelConfig& model, int64_t tp, int64_t tp_rank);
  std::vector<model::LocalParameter> held;
  std::vector<int64_t> shared_by_depth;  // elements of the exchange of shared gradients
  int64_t shared;                        // of all depths
  double share;                          // of the layers' elements: 1 / tp, and more where ranks share groups
};

/// `parameters` are those of the rank's tp and tp_rank.
AxisTraffic step_traffic(const model::ModelConfig& model, const RankParameters& parameters,
                         const RankPlace& place, const StepSize& size);
inline AxisTraffic step_traffic(const model::ModelConfig& model, const RankPlace& place,
                                const StepSize& size) {
  return step_traffic(model, RankParameters(model, place.tp, place.tp_rank), place, size);
}

}  // namespace dm::train
