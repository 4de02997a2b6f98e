#pragma once
// Consecutive rows of a dataset as tensors, read in place: evaluation and telemetry. (Training reads through
// data::Loader.)

#include <ATen/ATen.h>

#include <cstdint>

#include "data/dataset.h"
#include "model/placement.h"

namespace dm::train {

struct Rows {
  /// A context rank's piece of each row; rows shorter than there are ranks are made longer first, by targets
  /// that do not count.
  Rows piece(const model::Placement& placement) const;
  Rows to(at::Device device) const { return {tokens.to(device), seq_idx.to(device), mask.to(device)}; }

  at::Tensor tokens;   // [B, L + 1] int64
  at::Tensor seq_idx;  // [B, L] int32: document number within the row, from 0
  at::Tensor mask;     // [B, L] uint8: 1 where the target counts
};

/// Rows of `length` + 1 tokens, neighbours sharing one, from token `begin` on; all must lie inside the
/// dataset. With mask_boundary_loss a document's first token is no target that counts.
Rows read_rows(const data::Dataset& dataset, int64_t begin, int64_t rows, int64_t length,
               bool mask_boundary_loss);

}  // namespace dm::train
