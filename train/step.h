#pragma once
// Forward and backward over this rank's rows of one global batch.

#include <cstdint>

#include "data/loader.h"
#include "model/language_model.h"

namespace dm::train {

struct LocalLoss {
  double nats = 0;     // summed over this rank's counted targets
  double targets = 0;  // how many those are
};

/// Works through the rows `micro_batch` at a time; the gradient of the summed loss is added to the leaves'
/// gradients. A rank without rows adds nothing. The caller divides by the count over all ranks, which no rank
/// knows yet.
LocalLoss forward_backward(const model::LanguageModel& model, const data::Batch& batch, int64_t micro_batch);

}  // namespace dm::train
