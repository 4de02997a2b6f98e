#pragma once
// The scan of Mamba-2: state-space duality (Dao and Gu, arXiv 2405.21060, equations 1 and 6 with scalar A).
//
// Per row and head h, with the B and C of its group g = h / (H / G) and the [P, N] matrix S as state:
//   S_t = exp(Δ_t a_h) S_{t-1} + Δ_t x_t B_tᵀ
//   y_t = S_t C_t + D_h x_t
// S_{-1} is initial_state, or zero. Tokens of one document have equal seq_idx and stand together; where
// seq_idx[t] differs from seq_idx[t-1], S_{t-1} counts as zero: nothing of a document reaches another,
// whatever its values (NaN included). initial_state belongs to the document of the token before the row, or
// of token 0 where the documents do not say.
//
// Computed in chunks of Q tokens (section 6 of the paper): inside a chunk y = (L ∘ C Bᵀ) (Δ x) with
// L_ts = exp(Σ_{s<r<=t} Δ_r a), between chunks by the recurrence on S. Every exponent is a sum over the
// tokens between two positions, <= 0, masked before the exponential: no factor exceeds 1 and none overflows,
// however large |Δ a|.

#include <optional>

#include "kernels/comm/documents.h"
#include "kernels/scan_output.h"

namespace dm::kernels {

/// x [B, L, H, P], dt [B, L, H] (Δ, after softplus), a [H] (< 0), b and c [B, L, G, N] (G divides H), d [H],
/// documents of [B, L] tokens, initial_state [B, H, P, N]  ->  y [B, L, H, P], final_state [B, H, P, N]; L
/// >= 1.
///
/// Where the documents are cut over ranks, the tokens are one piece of the rows, which initial_state enters
/// on the first rank only. A pass over the states alone finds what the piece does to a state, the ranks
/// compose that (kernels/comm/context_axis.h), and the scan starts from the state that enters the piece; so
/// does the backward pass, from the gradient of the state that leaves it.
///
/// On the CPU float32 or float64, all alike; on a GPU x, b, c and y bfloat16 or float32, the rest float32,
/// chunks as its kernels have them (kernels/ssd/cuda/ssd_cuda.cuh, also on what keeps documents apart there).
/// Any strides (an input whose last dim is not contiguous is copied first). Accumulates in the dtype of the
/// inputs; sums of Δ a in float64. `chunk` (Q >= 1) moves the result by rounding only; chunks count from a
/// document's first token, and the CPU cuts them to 64 tokens, where it is fastest. Differentiable in all but
/// the documents, through both outputs, once. Saved for the backward pass: the inputs and the state before
/// each chunk that one enters, H P N values each; all else is recomputed. The same bits on every call and for
/// every number of threads; tasks are (row, head) and (chunk, group) pairs on dm::parallel_for.
ScanOutput ssd(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
               const at::Tensor& c, const at::Tensor& d, const Documents& documents,
               const std::optional<at::Tensor>& initial_state, int64_t chunk);

/// One token for decoding: x [B, H, P], dt [B, H], b and c [B, G, N] -> y [B, H, P]. `state` [B, H, P, N]
/// goes from S_{t-1} to S_t in place. On a GPU x, b and c are bfloat16 or float32, dt likewise or float32,
/// the rest float32. Not differentiable.
at::Tensor ssd_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                    const at::Tensor& c, const at::Tensor& d, at::Tensor& state);

}  // namespace dm::kernels
