#include "train/rows.h"

#include <vector>

namespace dm::train {

Rows read_rows(const data::Dataset& dataset, int64_t begin, int64_t rows, int64_t length,
               bool mask_boundary_loss) {
  const at::Tensor tokens = at::empty({rows, length + 1}, at::kInt);
  Rows result{{}, at::zeros({rows, length}, at::kInt), at::ones({rows, length}, at::kByte)};
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t first = begin + row * length;
    dataset.read_tokens(first, length + 1, tokens[row].data_ptr<int32_t>());
    auto* mask = result.mask[row].data_ptr<uint8_t>();
    if (dataset.has_loss_mask()) dataset.read_loss_mask(first + 1, length, mask);

    auto* seq_idx = result.seq_idx[row].data_ptr<int32_t>();
    for (const int64_t start : dataset.document_starts(first, length + 1)) {
      if (mask_boundary_loss) mask[start - 1] = 0;  // the target at start - 1 is the document's first token
      for (int64_t t = start; t < length; ++t) ++seq_idx[t];
    }
  }
  result.tokens = tokens.to(at::kLong);
  return result;
}

Rows Rows::piece(const model::Placement& placement) const {
  if (placement.cp == 1) return *this;
  Rows all = *this;
  if (const int64_t missing = placement.cp - seq_idx.size(1); missing > 0)
    all = {at::constant_pad_nd(tokens, {0, missing}), at::constant_pad_nd(seq_idx, {0, missing}),
           at::constant_pad_nd(mask, {0, missing})};
  const model::TokenRange range = model::context_piece(all.seq_idx.size(1), placement.cp, placement.cp_rank);
  return {all.tokens.narrow(1, range.begin, range.count() + 1),
          all.seq_idx.narrow(1, range.begin, range.count()), all.mask.narrow(1, range.begin, range.count())};
}

}  // namespace dm::train
