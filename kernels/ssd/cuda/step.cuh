#pragma once
// One token of decoding on the GPU, for the scans of both generations:
//   S ← exp(Δ a) S + Δ x B,  y = ⟨S, C⟩ + D x     for every row of N states
// The state is read and written once, which is all it costs; one launch.

#include <cuda_runtime_api.h>

#include "kernels/device/rows.h"

namespace dm::kernels::cuda {

/// Mamba-1 is the case of one group with H = E, P = 1 and a decay for every state.
struct StateStep {
  int64_t rows, heads, head_dim, groups, states;  // B, H, P, G (divides H), N
  Rows x;                                         // [B, H P]
  Rows dt;                                        // [B, H]
  Rows b, c;                                      // [B, G N]
  const float* a;                                 // [H], or [H, N] with `a_by_state`
  bool a_by_state;
  const float* d;  // [H]
  float* state;    // [B, H, P, N], updated
  void* y;         // [B, H P], contiguous, in the element of x
};

cudaError_t state_step(const StateStep& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
