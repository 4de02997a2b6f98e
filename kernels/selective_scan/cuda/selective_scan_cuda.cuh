#pragma once
// The selective scan on the GPU (semantics: kernels/selective_scan/selective_scan.h).
//
// A channel's states lie side by side in a few threads of a warp, four or eight a thread, and walk along the
// tokens in registers: one exponential a state and token, which is what the forward pass is bound by. The
// backward pass starts from states saved every 32 tokens, walks each 32 forward once more and then back.
// Where rows and channels alone do not fill the device, the sequence is cut into segments: a pass before
// finds what each segment does to its state, so that all can start at once.
//
// dB and dC are sums over channels, dA and dD over tokens: each block leaves its share, and the shares are
// added in one order.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/rows.h"

namespace dm::kernels::cuda {

/// Larger states have no kernel.
inline constexpr int64_t kSelectiveMostStates = 256;
/// Of several groups each has a multiple of so many channels.
inline constexpr int64_t kSelectiveGroupChannels = 64;

struct SelectiveShape {
  int64_t rows, length, channels, states;  // B, L, E, N
  int64_t groups = 1;                      // G: of channels that share B and C
};

/// A row of the batch follows the other: token t of row r is row r L + t of its matrix.
struct SelectiveInputs {
  SelectiveShape shape;
  Rows x, dt;                        // [B, L, E]
  Rows b, c;                         // [B, L, N] of the first group
  int64_t group_stride = 0;          // columns to those of the next
  const float* a;                    // [E, N]
  const float* d;                    // [E]
  const float* dt_bias = nullptr;    // [E]: Δ = clamp(softplus(dt + dt_bias)); null: dt is Δ
  float dt_min = 0.f, dt_max = 0.f;  // limits of that
  const int32_t* seq_idx;            // [B, L]
  const float* initial_state;        // [B, E, N], or null for zero
  const int32_t* before = nullptr;  // [B], stride before_stride: the document of the token before the row, to
                                    // which initial_state belongs; null: that of token 0
  int64_t before_stride = 1;
};

struct SelectiveForward {
  SelectiveInputs in;
  void* workspace;     // selective_forward_bytes()
  void* y;             // [B, L, E], contiguous, in the element of x
  float* final_state;  // [B, E, N], or null
  float* saved;        // selective_saved_floats(), or null where no gradient will be asked for
};

struct SelectiveBackward {
  SelectiveInputs in;
  const float* saved;
  Rows dy;                    // [B, L, E]
  const float* dfinal_state;  // [B, E, N], or null for zero
  void* workspace;            // selective_backward_bytes()
  void *dx, *ddt;             // contiguous, in the elements of x and dt
  void *db, *dc;              // in the elements of b and c, tokens dbc_stride apart, groups as b and c
  int64_t dbc_stride;
  float *da, *dd;             // [E, N], [E]
  float* ddt_bias = nullptr;  // [E], or null
  float* dinitial_state;      // [B, E, N], or null
};

/// What a row does to the state that enters it, S -> decay S + state with `state` where a walk from zero
/// ends; or, from the end, to the gradient of the state that leaves it.
struct SelectivePassage {
  SelectiveInputs in;
  const void* dy;  // [B, L, E], contiguous, in the element of x; null: forward, from in.initial_state
  const float* dfinal_state;  // where the walk back begins, or null for zero
  void* workspace;            // selective_passage_bytes()
  float *state, *decay;       // [B, E, N]; decay is 0 where a document begins in the row
};

int64_t selective_saved_floats(const SelectiveShape& shape);
int64_t selective_forward_bytes(const SelectiveShape& shape);
int64_t selective_backward_bytes(const SelectiveShape& shape);
int64_t selective_passage_bytes(const SelectiveShape& shape);
cudaError_t selective_forward(const SelectiveForward& args, cudaStream_t stream);
cudaError_t selective_backward(const SelectiveBackward& args, cudaStream_t stream);
cudaError_t selective_passage(const SelectivePassage& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
