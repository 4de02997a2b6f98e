#pragma once
// How long a step takes on a layout: what its busiest rank computes, and what of its exchanges computation
// does not cover.
//
//   update | passes .............................................|        | update
//             tensor and context exchanges inside them, uncovered
//          | all-gather of weights, beside     reduce-scatter of the last
//          | the first forward pass            pass's buckets, as they
//          | <- exposed: what it waits for     are completed ...............|
//                                                               <- exposed ->

#include "train/plan/compute_time.h"

namespace dm::train {

struct StepTime {  // seconds
  double compute = 0;
  double tensor = 0, context = 0;               // exchanges inside the passes
  double contention = 0;                        // by which exchanges beside the passes slow them
  double reduce_exposed = 0;                    // sums of gradients after the last pass
  double gather_exposed = 0;                    // weights that the first pass waits for
  double control = 0;                           // the decision of a step
  double reduce_hidden = 0, gather_hidden = 0;  // beside the passes; not part of the total
  double total() const {
    return compute + tensor + context + contention + reduce_exposed + gather_exposed + control;
  }
};

/// Of the rank that `place` names and whose `parameters` these are.
StepTime step_time(const model::ModelConfig& model, const RankParameters& parameters, const Cluster& cluster,
                   const RankPlace& place, const StepSize& size);

}  // namespace dm::train
