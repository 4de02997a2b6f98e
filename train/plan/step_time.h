#pragma once
// How long a step takes on a layout: what its busiest rank computes, and what of its exchanges computation
// does not cover.
//
//   passes .......................|  update | gather weights |
//      tensor and context exchanges inside them, uncovered
//             reduce-scatter of the last pass's buckets, as they are completed ...|
//                                                                 <- exposed ->

#include "train/plan/compute_time.h"

namespace dm::train {

struct StepTime {  // seconds
  double compute = 0;
  double tensor = 0, context = 0;  // exchanges inside the passes
  double contention = 0;           // by which exchanges beside the last pass slow it
  double reduce_exposed = 0;       // sums of gradients after it
  double gather = 0;               // of weights
  double control = 0;              // the decision of a step
  double reduce_hidden = 0;        // sums beside the last pass; not part of the total
  double total() const { return compute + tensor + context + contention + reduce_exposed + gather + control; }
};

/// Of the rank that `place` names and whose `parameters` these are.
StepTime step_time(const model::ModelConfig& model, const RankParameters& parameters, const Cluster& cluster,
                   const RankPlace& place, const StepSize& size);

}  // namespace dm::train
