#include "train/step.h"

#include <algorithm>

namespace dm::train {
namespace {

/// Rows [first, first + rows) of a row-major array of the batch, not copied.
template <class T>
at::Tensor rows_of(const std::vector<T>& values, int64_t first, int64_t rows, int64_t width,
                   at::ScalarType type) {
  return at::from_blob(const_cast<T*>(values.data()) + first * width, {rows, width}, type);
}

}  // namespace

LocalLoss forward_backward(const model::LanguageModel& model, const data::Batch& batch, int64_t micro_batch) {
  LocalLoss local;
  const int64_t length = batch.length;
  for (int64_t first = 0; first < batch.rows; first += micro_batch) {
    const int64_t rows = std::min(micro_batch, batch.rows - first);
    const at::Tensor tokens =
        rows_of(batch.tokens, first, rows, length + 1, at::kInt).to(at::kLong);        // [B, L + 1]
    const at::Tensor seq_idx = rows_of(batch.seq_idx, first, rows, length, at::kInt);  // [B, L]
    const at::Tensor mask = rows_of(batch.loss_mask, first, rows, length, at::kByte);  // [B, L]
    const at::Tensor nats = model.loss_sum(tokens, seq_idx, mask);
    nats.backward();
    local.nats += nats.item<double>();
  }
  local.targets = static_cast<double>(std::count_if(batch.loss_mask.begin(), batch.loss_mask.end(),
                                                    [](uint8_t counts) { return counts != 0; }));
  return local;
}

}  // namespace dm::train
