#pragma once
// One token of decoding as one launch. A token costs the reading of all weights and the carried state once,
// and between the blocks of a network there is a chain of small steps, each waiting for all of the one
// before: done by kernels of their own, their starts and ends take longer than the reading. Here a grid of
// one block a multiprocessor stays for the whole chain. In every block one warp does nothing but send for
// weights and states, in the order in which they are needed and as far ahead as shared memory holds them, so
// that memory is read on while the other warps wait for each other between the stages.
//
// Stages, bfloat16 activations and a float32 stream:
//
//   NormProduct   h' = h + norm(y) subln; p = W norm(h')                   (kernels/decode/norm_linear.h)
//   MixerProduct  convolution, step sizes, one step of the SSD scan, gated norm; p = W of that
//                                                                          (kernels/ssd_mixer/ssd_mixer.h)
//
// Deterministic. Nothing allocated, nothing synchronised with the host.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dm::kernels::cuda {

// What a stage leaves for a later one of the same launch goes by words of two bfloat16 and the launch's
// number, [B, columns / 2]: whoever reads a word sees whether it is there already (mail.cuh). No
// stage waits for all of another. The stream is kept by every block.

/// Rows of a stage with a product: what two tensor core instructions take.
constexpr int kMostProductRows = 8;

/// [O, I] of bfloat16: 16-byte aligned, I and the stride multiples of 8.
struct DecodeMatrix {
  const void* data;
  int stride, outputs, inputs;
};

struct NormProduct {
  const float* h;  // [B, D]; null: what the norm before in this launch left, of as many rows and columns
  const void* y;   // [B, D] bfloat16, or null: nothing to add
  const uint64_t* y_mail;  // where y comes from this launch; or null
  const float* subln;      // [D], or null
  const float* weight;     // [D]
  float* h_next;           // [B, D], other memory than h; not written where y is null
  void* product;           // [B, O] bfloat16, rows product_stride apart, an even number
  uint64_t* product_mail;  // the same for later stages
  DecodeMatrix matrix;     // [O, D]
  int rows, product_stride;
  float eps;
};

/// Shapes as SsdMixerForm has them: of one branch, the branches beside each other.
struct MixerProduct {
  const void* projected;                        // [B, ..] bfloat16: z | x | B | C | dt of every branch
  const uint64_t* projected_mail;               // where that comes from this launch; or null
  const float *conv_weight, *conv_bias;         // [branches * channels, 4], [branches * channels]
  const float *dt_bias, *a, *d, *norm, *scale;  // [branches * H] three times, [branches * E], [S] or [B, S]
  void* window;            // [B, 3, branches * channels] bfloat16, oldest first; moved on by a token
  float* state;            // [B, branches * H, P, N], likewise
  uint64_t* y_mail;        // [B, branches * E / 2], the scan's output
  void* product;           // [B, O] bfloat16, or [B, branches * E]; rows an even number apart
  uint64_t* product_mail;  // the same for later stages; without a matrix not written
  DecodeMatrix matrix;  // [O, branches * E]; without data the product is the gated norm itself, of any rows
  int rows, branches, inner, heads, groups, states;  // B, and E, H, G, N of a branch
  int head_dim, group_heads;                         // P and H / G
  int projected_stride, product_stride;
  int spans, sections;  // of the gated norm; of the scale, 0: none
  bool scale_by_token;
  float dt_min, dt_max, eps;

  __host__ __device__ int channels() const { return inner + 2 * groups * states; }
  /// Of a branch, in projected.
  __host__ __device__ int columns() const { return inner + channels() + heads; }
};

/// Whether the launch serves them; other shapes are run by the operations one by one.
bool decode_serves(const NormProduct& stage);
bool decode_serves(const MixerProduct& stage);

struct DecodeStage {
  enum class Kind : int { norm_product, mixer_product };
  Kind kind;
  // The block that gets the first part of the stage's product, and of its state: parts are dealt out one by
  // one over all stages, so that no block gets more than others. Set by decode_chain().
  int first_product = 0, first_unit = 0;
  union {
    NormProduct norm;
    MixerProduct mixer;
  };
  explicit DecodeStage(const NormProduct& stage) : kind(Kind::norm_product), norm(stage) {}
  explicit DecodeStage(const MixerProduct& stage) : kind(Kind::mixer_product), mixer(stage) {}
  DecodeStage() : kind(Kind::norm_product), norm{} {}
};

/// Stages of a launch: what fits the parameters of a kernel.
constexpr int kMostDecodeStages = 140;
/// Of the numbers below; as many as a device has multiprocessors at most.
constexpr int kMostDecodeBlocks = 1024;

/// The stages, one after the other, each reading what those before it wrote. `launches` [kMostDecodeBlocks]:
/// how many there were; of these launches alone, on one stream, zero before the first, as all mail is.
cudaError_t decode_chain(const DecodeStage* stages, int count, uint32_t* launches, cudaStream_t stream);

}  // namespace dm::kernels::cuda
