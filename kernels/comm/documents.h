#pragma once
// The documents that the tokens of a batch of rows belong to, and what of the rows lies elsewhere.

#include <ATen/core/Tensor.h>

#include <utility>

#include "core/collectives.h"
#include "kernels/comm/row_state.h"

namespace dm::kernels {

/// Tokens of one document have equal numbers and stand together. Where the ranks of a context group hold
/// consecutive pieces of the same rows, these are the tokens of one piece.
struct Documents {
  at::Tensor seq_idx;              // [B, L] int32
  Collectives* context = nullptr;  // the ranks with the other pieces, in their order; none: whole rows
  at::Tensor before;  // [B, K] int32: of the K >= 1 tokens before these, oldest first. Where none is before,
                      // a number of none of these documents. Undefined: nothing is before
  Carried* carried = nullptr;  // of the layer at hand, where rows go on from the batch before. With a context
                               // `before` is read by the first rank, `after` written by the last

  Documents(at::Tensor whole_rows) : seq_idx(std::move(whole_rows)) {}  // NOLINT: rows are whole as a rule
  /// Rows that go on where others ended, of whose last tokens `before` has the documents.
  Documents(at::Tensor rows, at::Tensor before) : seq_idx(std::move(rows)), before(std::move(before)) {}
  /// The piece of this rank, which learns from its neighbours what stands `tokens` before it.
  /// `before_the_row` [B, tokens], or nothing: what stands there.
  Documents(at::Tensor piece, Collectives& context, int64_t tokens, const at::Tensor& before_the_row = {});

  bool rows_begin_here() const { return context == nullptr || context->rank() == 0; }
  bool rows_end_here() const { return context == nullptr || context->rank() + 1 == context->size(); }

  /// With `before`: of what belongs to the last tokens, [B, count, C], that of the last one's document; else
  /// 0.
  at::Tensor of_the_last(const at::Tensor& tokens) const;

  /// With `before`: whether a row's first token here is of the same document as the token before it. [B]
  at::Tensor continues() const;
  /// With `before`: whether one such document takes the whole piece, so that a state passes through it. [B]
  at::Tensor passed() const;
};

}  // namespace dm::kernels
