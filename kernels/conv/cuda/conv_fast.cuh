#pragma once
// How the fast path of the convolution cuts its work. A warp has a strip of 32 consecutive tokens of one row
// and 128 channels, a block eight warps: some beside each other across columns, so that the block reads
// longer pieces of memory, the others further along the row. A thread walks along its strip with four
// channels. It keeps the last four tokens in a ring and has the next eight on their way; the walk is unrolled
// by four, so that every place in the ring is known to the compiler. One more column of blocks makes the step
// sizes.

#include "kernels/conv/cuda/conv_paths.cuh"

namespace dm::kernels::cuda {

constexpr int kTaps = 4, kHalo = kTaps - 1;
constexpr int kConvWarps = 8, kConvThreads = 32 * kConvWarps;
constexpr int kStrip = 32;
constexpr int kConvVec = 4;  // channels of a thread

/// A pass with kAcross of a block's warps beside each other.
template <int kAcross>
struct ConvCut {
  static constexpr int kStrips = kConvWarps / kAcross, kTokens = kStrips * kStrip;
  static constexpr int kLanes = 32 * kAcross, kChannels = kLanes * kConvVec;  // beside each other

  __host__ __device__ static constexpr int64_t token_blocks(int64_t length) {
    return (length + kTokens - 1) / kTokens;
  }
  __device__ static int lane() { return threadIdx.x % kLanes; }
  __device__ static int strip() { return threadIdx.x / kLanes; }

  /// A block's place: token block `tokens` of all rows' and column block `column`, the last of which makes
  /// the step sizes. Column blocks follow each other, so that blocks that run together read whole rows of
  /// memory.
  struct Block {
    int64_t tokens, row, first;  // first: token of the row
    int column;
    bool steps;

    __device__ explicit Block(const ConvInputs& in, int columns) {
      const int64_t blocks = token_blocks(in.length);
      tokens = blockIdx.x / columns;
      column = blockIdx.x % columns;
      row = tokens / blocks;
      first = tokens % blocks * kTokens;
      steps = in.columns.heads > 0 && column == columns - 1;
    }
  };

  /// A warp's tokens of a row, [first, last); empty behind the row.
  struct Strip {
    int64_t first, last;

    __device__ Strip(const Block& block, int64_t length) {
      first = block.first + strip() * kStrip;
      last = min(first + kStrip, length);
    }
  };

  /// Which terms the tokens of a block have: bit k of a token's byte is that of tap k. Behind the row none.
  struct __align__(4) Terms {
    uint8_t bits[kTokens + kTaps];

    __device__ void find(const ConvInputs& in, const Block& block) {
      for (int i = threadIdx.x; i < kTokens + kTaps; i += kConvThreads) {
        const int64_t t = block.first + i;
        uint32_t mask = 0;
        if (t < in.length)
          for (int k = 0; k < kHalo; ++k) mask |= uint32_t{is_term(in, block.row, t - kHalo + k, t)} << k;
        bits[i] = static_cast<uint8_t>(mask);
      }
      __syncthreads();
    }
    /// Of four tokens from a multiple of four on, a byte each.
    __device__ uint32_t four(int first) const { return *reinterpret_cast<const uint32_t*>(bits + first); }
  };
};

constexpr uint32_t kAllTerms = 0x07070707u;  // Terms::four() of tokens with all their terms

/// Whether `bits` (Terms::four) have tap k of token i; the last tap is always there.
template <bool kAll>
__device__ bool has_term(uint32_t bits, int i, int k) {
  return kAll || k == kHalo || (bits >> (8 * i + k) & 1) != 0;
}

/// The place in a ring of four of the token that tap k of token i of a step of four takes.
__device__ constexpr int ring(int i, int k) { return (i + 1 + k) % kTaps; }

/// Weights and bias of a thread's channels.
struct Taps {
  float weight[kTaps][kConvVec], bias[kConvVec];

  __device__ Taps(const ConvInputs& in, int64_t channel) {
#pragma unroll
    for (int c = 0; c < kConvVec; ++c) {
      const float4 w = reinterpret_cast<const float4*>(in.weight)[channel + c];
      weight[0][c] = w.x, weight[1][c] = w.y, weight[2][c] = w.z, weight[3][c] = w.w;
      bias[c] = in.bias[channel + c];
    }
  }
};

/// x of the last four tokens, at first of the three before the strip.
template <class T>
struct Window {
  float x[kTaps][kConvVec];

  /// column: of token 0 of the row.
  __device__ Window(const ConvInputs& in, int64_t row, int64_t first, const T* column, int64_t channel) {
    const int64_t channels = in.columns.branches * (in.columns.inner + 2 * in.columns.group_width);
#pragma unroll
    for (int k = 0; k < kHalo; ++k) {
      const int64_t t = first - kHalo + k;
      auto pack = Pack<T, kConvVec>::zero();
      if (t >= 0) {
        if (t < in.length) pack = Pack<T, kConvVec>::of(column + t * in.projected_stride);
      } else if (in.initial) {
        pack = Pack<T, kConvVec>::of(static_cast<const T*>(in.initial) +
                                     (row * kHalo + kHalo + t) * channels + channel);
      }
#pragma unroll
      for (int c = 0; c < kConvVec; ++c) x[ring(0, k)][c] = pack[c];
    }
  }
  __device__ void take(int i, const Pack<T, kConvVec>& pack) {
#pragma unroll
    for (int c = 0; c < kConvVec; ++c) x[ring(i, kHalo)][c] = pack[c];
  }
};

/// The tokens of a column on their way into shared memory, four a step, two steps ahead of the one that is
/// worked on. A thread copies and reads its own channels alone, so that nothing has to be waited for but its
/// own copies. Behind the end there are zeros. (Loads into registers would be moved down by the compiler,
/// next to their use.)
template <class T>
struct Ahead {
  static constexpr int kSteps = 3;
  static constexpr int kBytes = kConvVec * int{sizeof(T)};
  static constexpr int kStepBytes = kTaps * kConvThreads * kBytes;
  static constexpr int kSharedBytes = kSteps * kStepBytes;

  char* mine;     // in shared memory, of the first step's first token
  const T* next;  // token to ask for
  int stride, left, asked = 0, taken = 0;

  __device__ Ahead(char* shared, const T* from, int64_t stride, int count)
      : mine(shared + threadIdx.x * kBytes), next(from), stride(static_cast<int>(stride)), left(count) {}

  /// Four tokens more.
  __device__ void ask() {
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(mine)) + asked * kStepBytes;
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to + i * (kStepBytes / kTaps)),
                   "l"(next), "n"(kBytes), "r"(left > i ? kBytes : 0)
                   : "memory");
      next += stride;
    }
    left -= kTaps;
    asked = asked + 1 == kSteps ? 0 : asked + 1;
  }
  /// Token i of the step that is worked on.
  __device__ Pack<T, kConvVec> token(int i) const {
    return Pack<T, kConvVec>::of(
        reinterpret_cast<const T*>(mine + taken * kStepBytes + i * (kStepBytes / kTaps)));
  }
  __device__ void move() { taken = taken + 1 == kSteps ? 0 : taken + 1; }
};
/// Ends what one step asks for.
__device__ inline void end_step() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Returns when all but the last two steps are here.
__device__ inline void wait_for_step() { asm volatile("cp.async.wait_group 2;" ::: "memory"); }
__device__ inline void wait_for_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Starts `kernel` (args, column blocks) with as much shared memory as it wants.
template <class Cut, class Kernel, class Args>
cudaError_t launch_conv(Kernel kernel, const Args& args, int shared_bytes, cudaStream_t stream) {
  const ConvInputs& in = args.in;
  const auto columns = static_cast<int>((conv_channels(in) + Cut::kChannels - 1) / Cut::kChannels) +
                       static_cast<int>(in.columns.heads > 0);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  const auto blocks = static_cast<unsigned>(columns * in.rows * Cut::token_blocks(in.length));
  kernel<<<blocks, kConvThreads, shared_bytes, stream>>>(args, columns);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
