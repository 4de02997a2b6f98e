#pragma once
// The convolution on the GPU (semantics: kernels/conv/causal_conv.h), with what Mamba-2 needs beside it
// before its scan: the step sizes Δ = clamp(softplus(dt + dt_bias)).
//
// It reads the columns of a mixer's input projection where they are and writes what the scan reads. The
// projection has the branches beside each other, each z(E) | x(E) | B(G N) | C(G N) | dt(H):
//
//   projected  | z_1 x_1 B_1 C_1 dt_1 | z_2 x_2 B_2 C_2 dt_2 |        xbc  | x_1 x_2 | B_1 B_2 | C_1 C_2 |
//
// Channels of weight, bias and their gradients are in the projection's order: x_1 B_1 C_1 x_2 B_2 C_2. A
// plain convolution is one branch without z (offset 0), groups and heads.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct MixerColumns {
  int64_t branches;
  int64_t branch_stride;                                        // columns from one branch to the next
  int64_t x_offset;                                             // column of x in a branch: E behind z
  int64_t dt_offset;                                            // column of dt in a branch
  int64_t inner;                                                // E of one branch
  int64_t group_width;                                          // G N of one branch
  int64_t heads;                                                // H of one branch; 0: no step sizes
  int64_t channels() const { return inner + 2 * group_width; }  // of one branch
};

struct ConvInputs {
  int64_t rows, length;  // B, L
  MixerColumns columns;
  Element element;         // of projected, xbc and their gradients
  int64_t width;           // W
  const void* projected;   // [B, L, ..], token stride projected_stride
  const float* weight;     // [branches * channels, W]
  const float* bias;       // [branches * channels]
  const float* dt_bias;    // [branches * H]
  float dt_min, dt_max;    // limits of Δ
  const int32_t* seq_idx;  // [B, L]
  const void* initial;  // [B, W - 1, branches * channels] before token 0 in the projection's order, or null
  int64_t projected_stride;         // elements
  const int32_t* before = nullptr;  // [B, before_stride]: documents of the tokens before the row, the last of
                                    // which are initial's; null: initial is of the document of token 0
  int64_t before_stride = 0;
};

struct ConvForward {
  ConvInputs in;
  void* xbc;  // [B, L, branches * channels]
  float* dt;  // [B, L, branches * H]
};

struct ConvBackward {
  ConvInputs in;
  const void* dxbc;  // [B, L, branches * channels]
  const float* ddt;  // [B, L, branches * H]
  void* workspace;   // conv_workspace_bytes()
  void* dprojected;  // token stride in.projected_stride; the columns of x, B, C and dt are written
  float* dweight;    // [branches * channels, W]
  float* dbias;      // [branches * channels]
  float* ddt_bias;   // [branches * H]
  void* dinitial;    // as in.initial, or null
};

int64_t conv_workspace_bytes(const ConvInputs& in);
cudaError_t conv_forward(const ConvForward& args, cudaStream_t stream);
cudaError_t conv_backward(const ConvBackward& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
