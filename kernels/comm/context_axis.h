#pragma once
// What the ranks of a context group hand on along a row, as differentiable operations. Rank r holds the
// tokens after those of rank r - 1; pieces may be of any lengths from one token on.

#include <ATen/core/Tensor.h>

#include "core/collectives.h"

namespace dm::kernels {

/// x [B, L, C] -> the `count` tokens before the piece, [B, count, C], oldest first; zeros before the row. A
/// rank sends B count C elements to the next one, and in the backward pass to the one before. Pieces shorter
/// than `count` hand on what they were handed.
at::Tensor tokens_before(const at::Tensor& x, int64_t count, Collectives& group);

/// A scan cut into pieces: piece r turns the state S that enters it into decay_r S + state_r, state_r being
/// where a scan from zero ends. -> the state that enters this rank's piece, zero at the start of the row.
/// Differentiable in both. decay broadcasts to state; where it is 0 nothing passes, whatever it is (NaN
/// included).
///
/// By doubling distances: context_messages() times a rank sends its state and decay, in the backward pass
/// those of the mirrored scan, from the last rank to the first.
at::Tensor state_before(const at::Tensor& state, const at::Tensor& decay, Collectives& group);

/// How many messages rank `rank` of `ranks` sends in one state_before(); in its backward pass rank
/// ranks - 1 - rank sends as many.
int64_t context_messages(int64_t ranks, int64_t rank);

}  // namespace dm::kernels
