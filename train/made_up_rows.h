#pragma once
// Rows without a dataset, a function of (seed, row): what layouts are compared on, and what a dry run trains
// on.

#include "data/loader.h"
#include "model/config.h"

namespace dm::train {

/// `rows` rows of `length` random tokens, from the run's row `first` on; for a packed model in documents of
/// about a quarter of a row; one target in eight does not count, three rows in four go on from the batch
/// before.
data::Batch made_up_rows(const model::ModelConfig& model, int64_t seed, int64_t length, int64_t first,
                         int64_t rows);

}  // namespace dm::train
