#include "train/made_up_rows.h"

#include <algorithm>

#include "core/rng.h"

namespace dm::train {

data::Batch made_up_rows(const model::ModelConfig& model, int64_t seed, int64_t length, int64_t first,
                         int64_t rows) {
  data::Batch batch;
  batch.rows = rows, batch.length = length, batch.first_sample = first;
  const auto key = static_cast<uint64_t>(seed);
  const CounterRng tokens(key, "made-up tokens"), starts(key, "made-up documents"),
      counts(key, "made-up mask");
  const auto chance = static_cast<uint64_t>(std::max<int64_t>(2, length / 4));
  for (int64_t row = first; row < first + rows; ++row) {
    int32_t document = 0;
    for (int64_t t = 0; t <= length; ++t) {
      const auto draw = static_cast<uint64_t>(row * (length + 1) + t);
      batch.tokens.push_back(
          static_cast<int32_t>(tokens.below(draw, static_cast<uint64_t>(model.vocab_size))));
      if (t == length) break;
      if (model.packed && t > 0 && starts.below(draw, chance) == 0) ++document;
      batch.seq_idx.push_back(document);
      batch.loss_mask.push_back(counts.below(draw, 8) == 0 ? 0 : 1);
    }
    batch.sample_ids.push_back(static_cast<uint64_t>(row));
    const auto first_token = static_cast<uint64_t>(row * (length + 1));
    batch.goes_on.push_back(starts.below(first_token, 4) == 0 ? 0 : 1);
  }
  return batch;
}

}  // namespace dm::train
