#pragma once
// Mamba-1 between its projections (arXiv 2312.00752, figure 3) on a GPU, one mixer or two branches beside
// each other, as one operation:
//
//   x = silu(conv(projected's x));  δ | B | C = x_proj x;  Δ = clamp(softplus(dt_proj δ + dt_bias))
//   out = selective_scan(x, Δ, a, B, C, d) · silu(z) · scale
//
// Columns of `projected`, each branch as its in_proj has them, one branch after the other: x(E) | z(E).

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/comm/documents.h"
#include "kernels/linear/weight.h"

namespace dm::kernels {

struct SelectiveMixerForm {
  int64_t branches;
  int64_t inner, step_rank, d_state;  // E, R, N of one branch
  double dt_min, dt_max;              // limits of Δ; dt_max may be infinite
};

/// Vectors of all branches, one after the other, float32; `a` < 0. Matrices a branch.
struct SelectiveMixerWeights {
  at::Tensor conv_weight, conv_bias;  // [branches * E, W], [branches * E]
  at::Tensor dt_bias, a, d;           // [branches * E], [branches * E, N], [branches * E]
  std::vector<Weight> x_proj;         // [R + 2N, E]
  std::vector<Weight> dt_proj;        // [E, R]
};

/// Whether selective_mixer() serves it: on a GPU, N up to 128, of several branches E in multiples of 64.
bool selective_mixer_fuses(const at::Tensor& projected, const SelectiveMixerForm& form);

/// What is carried over the ends of rows, to those that go on with them.
struct SelectiveMixerState {
  at::Tensor window;  // [B, W - 1, branches * E]: the convolution's last inputs, oldest first
  at::Tensor state;   // [B, branches * E, N]
};

/// What of the mixer lies before the rows and behind them; no gradient passes either.
struct SelectiveMixerReach {
  const SelectiveMixerState* entering = nullptr;  // of the documents before the rows; none: nothing
  SelectiveMixerState* leaving = nullptr;         // gets what the rows, or this rank's piece of them, end in
};

/// projected [B, L, branches * 2E], documents of [B, L] tokens, scale [S] or [B, L, S] as gated_norm takes
/// it, over all branches' channels -> [B, L, branches * E] in the dtype of projected. Differentiable in all
/// but the documents. Both branches are one scan, every kernel reads and writes the columns of the projection
/// where they are, and Δ is never held. Saved for the backward pass: projected, the convolution's output,
/// δ | B | C, what softplus is taken of, the scan's output and its states every 32 tokens; where rows go on
/// from elsewhere what entered.
///
/// Of a piece of the rows, the convolution's last inputs and the state that enters the scan come from the
/// ranks before, and their gradients from those behind, as in kernels/ssd_mixer/ssd_mixer_cuda.h.
at::Tensor selective_mixer(const at::Tensor& projected, const SelectiveMixerWeights& weights,
                           const std::optional<at::Tensor>& scale, const Documents& documents,
                           const SelectiveMixerForm& form, const SelectiveMixerReach& reach = {});

}  // namespace dm::kernels
