#pragma once
// The residual stream: its norms, and how a block adds to it.

#include <optional>

#include "model/scope.h"

namespace dm::model {

/// Declares `name`.weight, and `name`.bias of a LayerNorm.
void declare_norm(const ModelConfig& config, const std::string& name, const Declare& declare);
/// RMSNorm or LayerNorm of x [.., D], as the model is configured, in the dtype of the activations.
at::Tensor apply_norm(const ModelConfig& config, const Scope& norm, const at::Tensor& x,
                      at::ScalarType activations);

/// The stream between two blocks.
struct Stream {
  at::Tensor h;  // [.., D], what the blocks have added up to
  at::Tensor u;  // [.., D], what the next block reads, in the dtype of the activations
};

/// From the embedding to the first block, whose norm is `norm`.
Stream enter(const ModelConfig& config, const at::Tensor& embedded, const Scope& norm,
             at::ScalarType activations);

/// A block's output y, of which an RMSNorm with `output_norm` is taken where there is one, enters the stream.
///   pre: h ← h + y, u = next(h)      post: h ← norm(h + y), u = h, and next(h) where `last`
/// `norm` is the block's own; `next` the following block's, or the final norm where this block is the `last`.
Stream add(const ModelConfig& config, const Stream& stream, const at::Tensor& y,
           const std::optional<at::Tensor>& output_norm, const Scope& norm, const Scope& next, bool last);

}  // namespace dm::model
