#pragma once
// The norms over rows on the GPU (semantics: kernels/norm/norm.h), and the pass between two blocks of the
// network (kernels/norm/residual_norm.h). Rows follow each other, D contiguous elements each.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct NormInputs {
  int64_t rows, width;  // D
  Element x_element;    // of x and dx
  Element y_element;    // of y and dy
  const void* x;        // row stride x_stride
  const float* weight;  // [D]
  const float* bias;    // [D] of layer_norm; null for rms_norm, which subtracts no mean
  float eps;
  int64_t x_stride;  // elements
};

struct NormForward {
  NormInputs in;
  void* y;      // [rows, D]
  float* mean;  // [rows], of layer_norm; or null
  float* root;  // [rows]: 1 / sqrt(.. + eps), for the backward pass; or null
};

struct NormBackward {
  NormInputs in;
  const float* mean;  // as the forward pass left it
  const float* root;
  const void* dy;   // row stride dy_stride
  void* workspace;  // norm_workspace_bytes()
  void* dx;         // [rows, D]
  float* dweight;   // [D]
  float* dbias;     // [D], of layer_norm
  int64_t dy_stride;
};

int64_t norm_workspace_bytes(const NormInputs& in);
cudaError_t norm_forward(const NormForward& args, cudaStream_t stream);
cudaError_t norm_backward(const NormBackward& args, cudaStream_t stream);

struct ResidualNormInputs {
  int64_t rows, width;
  Element stream;       // of the residual stream: h, h' and their gradients
  Element element;      // of y, u and their gradients
  const void* y;        // [rows, D]
  const float* subln;   // [D], or null: y is added as it is
  const float* weight;  // [D]
  float eps;
};

struct ResidualNormForward {
  ResidualNormInputs in;
  const void* h;     // [rows, D]
  void* h_next;      // [rows, D]: h'
  void* u;           // [rows, D]
  float* root;       // [rows]: the reciprocal roots of h', and of y where there is a subln; or both null
  float* root_of_y;  // [rows]
};

struct ResidualNormBackward {
  ResidualNormInputs in;
  const void* h_next;
  const float *root, *root_of_y;
  const void* dh_next;  // [rows, D], or null for zero
  const void* du;       // [rows, D], or null for zero
  void* workspace;      // residual_norm_workspace_bytes()
  void* dh;             // [rows, D]
  void* dy;             // [rows, D]
  float *dweight, *dsubln;
};

/// Whether these kernels serve the shape: D a multiple of eight and at most 8192, memory aligned to 16 bytes;
/// float32 with a float32 or a bfloat16 stream, bfloat16 with either. Else there is norm_forward and
/// addition.
bool residual_norm_serves(const ResidualNormInputs& in);
int64_t residual_norm_workspace_bytes(const ResidualNormInputs& in);
cudaError_t residual_norm_forward(const ResidualNormForward& args, cudaStream_t stream);
cudaError_t residual_norm_backward(const ResidualNormBackward& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
