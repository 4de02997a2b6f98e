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

/// projected [B, L, branches * 2E], seq_idx [B, L] int32, scale [S] or [B, L, S] as gated_norm takes it, over
/// all branches' channels -> [B, L, branches * E] in the dtype of projected. Differentiable in all but
/// seq_idx. Both branches are one scan, every kernel reads and writes the columns of the projection where
/// they are, and Δ is never held. Saved for the backward pass: projected, the convolution's output, δ | B |
/// C, what softplus is taken of, the scan's output and its states every 32 tokens.
at::Tensor selective_mixer(const at::Tensor& projected, const SelectiveMixerWeights& weights,
                           const std::optional<at::Tensor>& scale, const at::Tensor& seq_idx,
                           const SelectiveMixerForm& form);

}  // namespace dm::kernels
