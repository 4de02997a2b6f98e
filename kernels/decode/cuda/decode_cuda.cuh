#pragma once
// One token of decoding through a block of the network in three kernels, for up to four rows, bfloat16
// activations and a float32 stream:
//
//   norm_product   h' = h + norm(y) subln; p = W norm(h')       (kernels/decode/norm_linear.h)
//   mixer_step     convolution, step sizes and one step of the SSD scan, any number of rows
//   gate_product   y = W (gated norm of the scan's output)       (both: kernels/ssd_mixer/ssd_mixer.h)
//
// Each streams its weights or its state, which is what a token costs, and is started ahead of the one before.
// All on `stream`; nothing allocated, nothing synchronised.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dm::kernels::cuda {

/// A matrix [O, I] of bfloat16: 16-byte aligned, I and the stride multiples of 8.
struct DecodeMatrix {
  const void* data;
  int64_t stride, outputs, inputs;
};

struct NormProduct {
  int64_t rows, width;  // B, D
  const float* h;       // [B, D]
  const void* y;        // [B, D] bfloat16, or null: nothing to add
  const float* subln;   // [D], or null
  const float* weight;  // [D]
  float eps;
  DecodeMatrix matrix;  // [O, D]
  float* h_next;        // [B, D], other memory than h; not written where y is null
  void* product;        // [B, O] bfloat16, rows product_stride apart
  int64_t product_stride;
};
bool norm_product_serves(const NormProduct& args);
cudaError_t norm_product(const NormProduct& args, cudaStream_t stream);

/// Shapes as SsdMixerForm has them: of one branch, the branches beside each other.
struct MixerStep {
  int64_t rows, branches;
  int64_t inner, heads, groups, states;  // E, H, G, N of a branch
  const void* projected;                 // [B, ..] bfloat16: z | x | B | C | dt of every branch
  int64_t projected_stride;
  const float *conv_weight, *conv_bias;  // [branches * channels, 4], [branches * channels]
  const float *dt_bias, *a, *d;          // [branches * H]
  float dt_min, dt_max;
  const void* window;  // [B, 3, branches * channels] bfloat16, oldest first; gate_product moves it on
  float* state;        // [B, branches * H, P, N]
  void* y;             // [B, branches * E] bfloat16

  __host__ __device__ int64_t channels() const { return inner + 2 * groups * states; }
  __host__ __device__ int64_t columns() const {
    return inner + channels() + heads;
  }  // of a branch, in projected
};
bool mixer_step_serves(const MixerStep& args);
cudaError_t mixer_step(const MixerStep& args, cudaStream_t stream);

struct GateProduct {
  MixerStep step;  // as it was given to mixer_step()
  int64_t spans;
  int64_t sections;     // of the scale; 0: none
  bool scale_by_token;  // scale is [B, S], else [S]
  const float* norm;    // [branches * E]
  const float* scale;
  float eps;
  DecodeMatrix matrix;  // [O, branches * E]; without data the product is the gated norm itself, of any rows
  void* window;         // step.window, moved on by a token
  void* product;        // [B, O] bfloat16, or [B, branches * E]
  int64_t product_stride;
};
bool gate_product_serves(const GateProduct& args);
cudaError_t gate_product(const GateProduct& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
