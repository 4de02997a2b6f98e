#pragma once
// The gated norm on the GPU (semantics: kernels/gated_norm/gated_norm.h). z is read from, and its gradient
// written to, the columns of the mixer's input projection, where the branches stand beside each other; y and
// out are merged.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct GatedNormInputs {
  int64_t tokens;       // B L
  int64_t branches;     // parts of E whose z's stand z_branch_stride apart
  int64_t inner;        // channels of one branch; E = branches * inner
  int64_t spans;        // of the norm, over all E; 0: no norm, the gate and the scale alone
  int64_t sections;     // S; 0: no scale
  bool scale_by_token;  // scale is [tokens, S], else [S]
  Element element;      // of y, z, out and their gradients
  const void* y;        // [tokens, E]
  const void* z;        // channel 0 of branch 0
  const float* weight;  // [E]; null without a norm
  const float* scale;   // contiguous
  float eps;
  int64_t z_stride, z_branch_stride;  // elements, from token to token and from branch to branch
};

struct GatedNormForward {
  GatedNormInputs in;
  void* out;    // [tokens, E]
  float* root;  // [tokens, spans]: the reciprocal root, for the backward pass; or null
};

struct GatedNormBackward {
  GatedNormInputs in;
  const float* root;  // as the forward pass left it; null without a norm
  const void* dout;   // [tokens, E]
  void* workspace;    // gated_norm_workspace_bytes()
  void* dy;           // [tokens, E]
  void* dz;           // strides as z
  float* dweight;     // [E]; null without a norm
  float* dscale;      // as scale
};

int64_t gated_norm_workspace_bytes(const GatedNormInputs& in);
cudaError_t gated_norm_forward(const GatedNormForward& args, cudaStream_t stream);
cudaError_t gated_norm_backward(const GatedNormBackward& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
