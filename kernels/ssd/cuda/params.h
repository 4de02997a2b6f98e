#pragma once
// What the CUDA kernels of the SSD scan take: raw device pointers, shapes and strides. The operation itself
// is documented in kernels/ssd/ssd.h; here stands only what is particular to the GPU.
//
// x, b, c and y are float32 or bfloat16, all alike; dt, a, d and every state at the boundary are float32.
// Rows of a batch follow each other: element (row, token) of a tensor starts at (row * length + token) *
// stride, so that a column range of the convolution's output is a view. Decay factors, running state and all
// sums are float32. Nothing is added atomically: the same call gives the same bits.

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct SsdShape {
  int64_t rows;      // B
  int64_t length;    // L, >= 1
  int64_t heads;     // H
  int64_t head_dim;  // P
  int64_t groups;    // G, divides H
  int64_t state;     // N
};

/// Inputs of both passes.
struct SsdInputs {
  SsdShape shape;
  Element element;                       // of x, b, c, y and of dy, dx
  const void* x;                         // [B, L, H, P], token stride x_stride
  const float* dt;                       // [B, L, H], after softplus
  const float* a;                        // [H], < 0
  const void* b;                         // [B, L, G, N], token stride b_stride
  const void* c;                         // [B, L, G, N], token stride c_stride
  const float* d;                        // [H]
  const int32_t* seq_idx;                // [B, L]
  const float* initial_state;            // [B, H, P, N], or null for zero
  int64_t x_stride, b_stride, c_stride;  // elements
  const int32_t* before = nullptr;  // [B], stride before_stride: the document of the token before the row,
                                    // to which initial_state belongs; null: that of token 0
  int64_t before_stride = 1;
};

struct SsdForward {
  SsdInputs in;
  void* y;             // [B, L, H, P], token stride y_stride
  float* final_state;  // [B, H, P, N], or null
  void* saved;         // ssd_saved_bytes(): what the backward pass needs besides the inputs
  bool save_states;    // without, `saved` is scratch of ssd_scratch_bytes() and no use to the backward pass
  void* workspace;     // ssd_forward_bytes()
  bool passed;         // saved and workspace are as ssd_passage() has left them for the same inputs, but for
                       // initial_state
  int64_t y_stride;
};

struct SsdBackward {
  SsdInputs in;
  const void* saved;          // as the forward pass left it
  const void* dy;             // [B, L, H, P], token stride dy_stride
  const float* dfinal_state;  // [B, H, P, N], or null for zero
  void* workspace;            // ssd_workspace_bytes()
  bool passed;  // workspace is as ssd_passage() has left it for the same inputs, but for dfinal_state
  void* dx;     // [B, L, H, P], token stride dx_stride
  float* ddt;   // [B, L, H]
  float* da;    // [H]
  void* db;     // [B, L, G, N], token stride db_stride
  void* dc;     // [B, L, G, N], token stride dc_stride
  float* dd;    // [H]
  float* dinitial_state;  // [B, H, P, N], or null
  Element bc_element;     // of db and dc
  int64_t dy_stride, dx_stride, db_stride, dc_stride;
};

/// A walk over the states alone: what a row does to the state that enters it, S -> decay S + state with
/// `state` where a walk from zero ends; or, from the end, to the gradient of the state that leaves it. What
/// it finds on its way is of use to the pass that follows.
struct SsdPassage {
  SsdInputs in;
  const void* dy;             // [B, L, H, P], token stride dy_stride; null: forward, from in.initial_state
  const float* dfinal_state;  // where the walk back begins, or null for zero
  void* saved;                // SsdForward::saved, before the pass; back: after it
  void* workspace;            // SsdForward::workspace; back: SsdBackward::workspace
  float* state;               // [B, H, P, N]
  float* decay;               // [B, H]; 0 where a document begins in the row
  int64_t dy_stride;
};

}  // namespace dm::kernels::cuda
