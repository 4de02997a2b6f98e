#pragma once
// How long a GPU computes: every stage of the cost model (model/cost.h) takes its floor over the share of it
// that its kernels reach.

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "train/plan/cluster.h"
#include "train/plan/step_traffic.h"

namespace dm::train {

/// Seconds of a pass, of a token.
struct PassTime {
  struct Layer {
    double forward, backward;  // what is computed again is part of the backward pass
  };
  std::vector<Layer> layers;
  Layer head;
  double total() const;
};

/// On a rank with `share` of the work inside a layer, and `stream` of that on the residual stream and the
/// head: 1 and 1 alone. Where rows are `cut`, each pass of a scan waits for a walk over the states of the
/// piece before it (docs/parallelism.md). Recomputation is as `model` says.
PassTime pass_time(const model::ModelConfig& model, const Cluster& cluster, double share = 1,
                   double stream = 1, bool cut = false);

/// Seconds of an update of which a rank owns `owned` elements and holds `held`.
double update_time(const Cluster& cluster, int64_t owned, int64_t held);

/// Seconds of a whole step on one GPU, however much memory that would take.
double step_time_alone(const model::ModelConfig& model, const Cluster& cluster, const StepSize& size);

}  // namespace dm::train
