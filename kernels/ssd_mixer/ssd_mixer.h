#pragma once
// Mamba-2 between its projections (arXiv 2405.21060, figure 6), one mixer or two branches beside each other:
// convolution and SiLU, step sizes, the SSD scan, the gated norm. Two branches are one scan of twice the
// groups, so that the difference of two mixers takes no more passes than one mixer.
//
//   x, B, C = silu(conv(projected's x | B | C));  Δ = clamp(softplus(dt + dt_bias))
//   out     = gated_norm(ssd(x, Δ, a, B, C, d), z) · scale
//
// Columns of `projected`, each branch as its in_proj has them, one branch after the other:
//   z(E) | x(E) | B(G N) | C(G N) | dt(H)     E, G, H of one branch

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/comm/documents.h"
#include "kernels/decode/decode_chain.h"
#include "kernels/linear/weight.h"
#include "kernels/norm/split_norm.h"

namespace dm::kernels {

/// What a GPU's backward pass makes again instead of keeping it, each more than the one before.
enum class MixerRecompute {
  none,
  conv,  // the convolution's output, and the gated norm's where the product with out_proj is part of it
  scan   // all but projected
};

struct SsdMixerForm {
  int64_t branches;
  int64_t inner, heads, groups, d_state;  // E, H, G, N of one branch; P = E / H
  int64_t spans;                          // of the gated norm, over the channels of all branches
  double eps;                             // of the gated norm
  double dt_min, dt_max;                  // limits of Δ; dt_max may be infinite
  int64_t chunk;                          // of the scan
  MixerRecompute recompute = MixerRecompute::conv;
  bool exact_states = false;    // a GPU keeps the scan's states in float32, which its plain kernels do
  bool gradients_only = false;  // with `scan` and out_proj: a GPU's forward pass leaves its values undefined

  int64_t group_width() const { return groups * d_state; }
  int64_t channels() const { return inner + 2 * group_width(); }  // convolved: x | B | C
  int64_t rows() const { return inner + channels() + heads; }     // of one branch's in_proj
};

/// Of all branches, one after the other; `a` < 0. On a GPU float32.
struct SsdMixerWeights {
  at::Tensor conv_weight,
      conv_bias;             // [branches * channels, W], [branches * channels]: x | B | C of a branch
  at::Tensor dt_bias, a, d;  // [branches * H]
  at::Tensor norm;           // [branches * E]
};

/// What is carried over the ends of rows: from one token of decoding to the next, where a step updates it in
/// place, and from rows to those that go on with them.
struct SsdMixerState {
  at::Tensor window;  // [B, W - 1, branches * channels]: the convolution's last inputs, oldest first
  at::Tensor state;   // [B, branches * H, P, N]
};

/// What of the mixer lies elsewhere: on other ranks, before the rows, behind them.
struct SsdMixerReach {
  SplitSpans spans;  // of the gated norm, instead of form.spans, where some reach over the ranks of `tensor`
  Collectives* tensor = nullptr;
  /// What the rows begin with, of the documents before them; none: nothing. Where the documents are cut over
  /// ranks, on the first of them only. No gradient passes to it.
  const SsdMixerState* entering = nullptr;
  /// Gets what the rows, or this rank's piece of them, end in; no gradient comes from it. A pass that wants
  /// its gradients only leaves it as it is.
  SsdMixerState* leaving = nullptr;
};

/// projected [B, L, branches * rows], documents of [B, L] tokens, scale as gated_norm takes it, over all
/// branches' channels -> [B, L, branches * E] in the dtype of projected. Differentiable in all but the
/// documents. On a GPU it is one operation, also of a piece of the rows: see ssd_mixer_cuda.h for what it
/// saves.
at::Tensor ssd_mixer(const at::Tensor& projected, const SsdMixerWeights& weights,
                     const std::optional<at::Tensor>& scale, const Documents& documents,
                     const SsdMixerForm& form, const SsdMixerReach& reach = {});

/// linear(ssd_mixer(..), out_proj), for which a GPU need not keep the product's input.
at::Tensor ssd_mixer(const at::Tensor& projected, const SsdMixerWeights& weights,
                     const std::optional<at::Tensor>& scale, const Documents& documents,
                     const SsdMixerForm& form, const SsdMixerReach& reach, const Weight& out_proj);

/// One more token: projected [B, branches * rows] -> [B, branches * E]. Not differentiable.
at::Tensor ssd_mixer_step(const at::Tensor& projected, const SsdMixerWeights& weights,
                          const std::optional<at::Tensor>& scale, SsdMixerState& state,
                          const SsdMixerForm& form);

/// linear(ssd_mixer_step(..), out_proj); on a GPU, in bfloat16, it is queued in the chain and reads the state
/// and out_proj once. `projected` may come from the chain.
at::Tensor ssd_mixer_step(const at::Tensor& projected, const SsdMixerWeights& weights,
                          const std::optional<at::Tensor>& scale, SsdMixerState& state,
                          const SsdMixerForm& form, const Weight& out_proj, DecodeChain& chain);

}  // namespace dm::kernels
