#pragma once
// The selective scan of Mamba-1, S6 (Gu and Dao, arXiv 2312.00752, equation 2a with the discretisation of
// section 3.2: A by zero-order hold, B by Euler's rule, as the published code does).
//
// Per row and channel e, with N states:
//   S_t[n] = exp(Δ_t a[e, n]) S_{t-1}[n] + Δ_t x_t B_t[n]
//   y_t    = Σ_n C_t[n] S_t[n] + D[e] x_t
// S_{-1} is initial_state, or zero. A change of seq_idx between two tokens makes S_{t-1} count as zero:
// nothing of a document reaches another, whatever its values. initial_state belongs to the document of token
// 0.

#include <optional>

#include "kernels/scan_output.h"

namespace dm::kernels {

/// x and dt [B, L, E] (dt: Δ after softplus), a [E, N] (< 0), b and c [B, L, N], d [E], seq_idx [B, L] int32,
/// initial_state [B, E, N]  ->  y [B, L, E], final_state [B, E, N]; L >= 1.
///
/// On the CPU float32 or float64, all alike; accumulates in the dtype of the inputs. On a GPU x, b and c are
/// bfloat16 or float32, all alike, dt likewise or float32, the rest float32; N up to 128; it computes in
/// float32, y and the gradients are rounded once to the dtypes of x and the inputs. Any strides (an input
/// whose last dim is not contiguous is copied first). Differentiable in all but seq_idx, through both
/// outputs. Saved for the backward pass: the inputs and the state at the start of every block of tokens; the
/// states inside a block are recomputed. The same bits on every call and for every number of threads.
ScanOutput selective_scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
                          const std::optional<at::Tensor>& initial_state);

/// One token for decoding: x and dt [B, E], b and c [B, N] -> y [B, E]. `state` [B, E, N] goes from S_{t-1}
/// to S_t in place. Dtypes as above. Not differentiable.
at::Tensor selective_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, at::Tensor& state);

}  // namespace dm::kernels
