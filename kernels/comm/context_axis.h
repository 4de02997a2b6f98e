#pragma once
// What the ranks of a context group hand on along a row. Rank r holds the tokens after those of rank r - 1;
// pieces may be of any lengths from one token on.
//
// Operations that know their own gradient take the functions without autograd, each with its mirror image;
// the others tokens_before() and state_before().

#include <ATen/core/Tensor.h>

#include "core/collectives.h"

namespace dm::kernels {

/// x [B, L, C] -> the `count` tokens before the piece, [B, count, C], oldest first. On the first rank what is
/// said to stand before the row, or undefined: nothing. A rank sends B count C elements to the next one.
/// Pieces shorter than `count` hand on what they were handed.
at::Tensor window_before(const at::Tensor& x, int64_t count, Collectives& group,
                         const at::Tensor& before_the_row = {});
/// From the gradient of that [B, count, C], whatever it is on the first rank: the gradient of the last
/// min(count, length) tokens of the piece, undefined on the last rank. As many elements, the other way.
at::Tensor window_gradient(const at::Tensor& dwindow, int64_t length, Collectives& group);

/// What a piece of a scan does to the state that enters it, S -> decay S + state, where `state` is what a
/// scan from zero ends in; or, from the end, to the gradient of the state that leaves it. decay broadcasts to
/// state; where it is 0 nothing passes, whatever it is (NaN included). One message.
struct Passage {
  at::Tensor message, state, decay;  // state and decay are views of the message
  Passage(at::IntArrayRef state_sizes, at::IntArrayRef decay_sizes, const at::TensorOptions& options);
};

/// The state that enters this rank's piece; undefined, which is zero, on the first rank.
///
/// By doubling distances: context_messages() times a rank sends its state and decay. The last rank sends
/// nothing: what its piece does need not be known.
at::Tensor state_entering(const Passage& piece, Collectives& group);
/// The same from the last rank to the first: the gradient of the state that leaves this rank's piece, of
/// passages of gradients.
at::Tensor gradient_leaving(const Passage& piece, Collectives& group);

/// window_before() as a differentiable operation, zeros where nothing is before.
at::Tensor tokens_before(const at::Tensor& x, int64_t count, Collectives& group,
                         const at::Tensor& before_the_row = {});
/// state_entering() as a differentiable operation, of whole states and decays; zero on the first rank.
at::Tensor state_before(const at::Tensor& state, const at::Tensor& decay, Collectives& group);

/// How many messages rank `rank` of `ranks` sends in one state_entering(); in gradient_leaving() rank
/// ranks - 1 - rank sends as many.
int64_t context_messages(int64_t ranks, int64_t rank);

}  // namespace dm::kernels
