#pragma once
// The residual stream: its norms, and how a block adds to it.

#include <optional>

#include "kernels/decode/norm_linear.h"
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

/// The stream in front of a block while decoding. The block's output before it, and the norm, are left to
/// this block's first product, which takes them with it in one pass where it can.
class StepStream {
 public:
  /// h [B, D]: complete, or without the output of the block before, y [B, D], which may come from the chain.
  /// `norm`: this block's, or the final norm; `before`: that of the block before.
  StepStream(const ModelConfig& config, at::Tensor h, at::ScalarType activations, const Scope& norm,
             kernels::DecodeChain& chain);
  StepStream(const ModelConfig& config, const StepStream& stream, const at::Tensor& y,
             const std::optional<at::Tensor>& output_norm, const Scope& before, const Scope& norm, bool last);

  /// matrix · u [B, O]. One of both, once: the stream is then complete. A queued product may be there only
  /// when the chain has run, for operations that take it from the chain.
  at::Tensor product(const kernels::Weight& matrix);
  at::Tensor queued_product(const kernels::Weight& matrix);
  kernels::DecodeChain& chain() { return *chain_; }

 private:
  kernels::DecodeChain* chain_;
  bool pending_ = false;           // pre-norm RMSNorm: everything is left to product()
  kernels::PendingNorm in_front_;  // where it is; h alone where not
  at::Tensor u_;                   // where it is not
};

}  // namespace dm::model
