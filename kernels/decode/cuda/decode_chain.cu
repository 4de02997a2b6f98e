#include "kernels/decode/cuda/decode_cuda.cuh"

#include <algorithm>

#include "kernels/decode/cuda/gated_rows.cuh"
#include "kernels/decode/cuda/normed_rows.cuh"
#include "kernels/decode/cuda/prefetch.cuh"
#include "kernels/decode/cuda/product.cuh"
#include "kernels/device/launch.cuh"

namespace dm::kernels::cuda {
namespace {

struct DecodeProgram {
  DecodeStage stages[kMostDecodeStages];
  int count, slots, x_bytes, h_bytes, part_bytes;
  uint32_t* launches;
};
static_assert(sizeof(DecodeProgram) <= 32764, "a kernel's parameters");

/// Copies stage `index` to where the computing warps read it; ready after their next decode_sync(). By the
/// last warps, which have the least to do.
__device__ void fetch_stage(const DecodeProgram& program, int index, BlockMemory& memory) {
  constexpr int kWords = int{sizeof(DecodeStage)} / 4;
  static_assert(sizeof(DecodeStage) % 4 == 0 && kWords <= kDecodeThreads);
  const int word = static_cast<int>(threadIdx.x) - (kDecodeThreads - kWords);
  if (index >= program.count || word < 0) return;
  reinterpret_cast<uint32_t*>(&memory.stages[index % 4])[word] =
      reinterpret_cast<const uint32_t*>(&program.stages[index])[word];
}

template <class Stage>
__device__ ProductStore store_of(const Stage& stage) {
  return {static_cast<bf16*>(stage.product), stage.product_mail, stage.product_stride};
}

/// A mixer's stage up to its product; where there is no matrix the gated norm itself, each row by one block.
__device__ void mixer_rows(const MixerProduct& m, int first_unit, DecodeBlock& block) {
  const int grid = static_cast<int>(gridDim.x), thread = static_cast<int>(threadIdx.x),
            width = m.branches * m.inner;
  mixer_step(m, first_unit, block);
  const bool apart = m.matrix.data == nullptr;
  const int rows = apart ? 1 : m.rows, first = apart ? static_cast<int>(blockIdx.x) : 0,
            step = apart ? grid : m.rows;
#pragma unroll 1
  for (int row = first; row < m.rows; row += step) {
    const int spread = (thread / 32 * grid + static_cast<int>(blockIdx.x)) * 32 + thread % 32;
    SharedWindows windows(m, row, rows, apart ? thread : spread,
                          apart ? kDecodeThreads : kDecodeThreads * grid, block.launch);
    gated_rows(m, row, rows, block, !apart, [&] { windows.move(); });
    if (!apart) continue;
    bf16* const to = static_cast<bf16*>(m.product) + int64_t{row} * m.product_stride;
    for (int i = thread; i < width; i += kDecodeThreads)
      put(to + i, reinterpret_cast<const float*>(block.x)[i] * block.memory.factors[0][i / kSpanPiece]);
    decode_sync();
  }
  if (apart) decode_sync();
}

__global__ void __launch_bounds__(kDecodeBlockThreads, 1)
    decode_chain_kernel(const __grid_constant__ DecodeProgram program) {
  extern __shared__ __align__(128) char shared[];
  BlockMemory& memory = *reinterpret_cast<BlockMemory*>(shared);
  bf16* const x = reinterpret_cast<bf16*>(shared + sizeof(BlockMemory));
  float* const h = reinterpret_cast<float*>(shared + sizeof(BlockMemory) + program.x_bytes);
  const int parts_at = static_cast<int>(sizeof(BlockMemory)) + program.x_bytes + program.h_bytes;
  float* const parts = reinterpret_cast<float*>(shared + parts_at);
  char* const slots = shared + (parts_at + program.part_bytes + 127) / 128 * 128;
  MemoryRing ring(memory.ring, slots, program.slots);
  if (threadIdx.x == 0) ring.init(), memory.stage = 0;
  __syncthreads();
  if (threadIdx.x >= kDecodeThreads + 32) {
    for (int i = 0; i < program.count; ++i) {
      while (atomicAdd(&memory.stage, 0) + 2 < i) __nanosleep(200);
      prefetch_vectors(program.stages[i]);
    }
    return;
  }
  if (threadIdx.x >= kDecodeThreads) {
    if (threadIdx.x > kDecodeThreads) return;
    for (int i = 0; i < program.count; ++i) {
      const DecodeStage& stage = program.stages[i];
      if (stage.kind == DecodeStage::Kind::norm_product) {
        ring.send_matrix(stage.norm.matrix, stage.first_product);
      } else {
        ring.send_state(stage.mixer, stage.first_unit);
        if (stage.mixer.matrix.data != nullptr) ring.send_matrix(stage.mixer.matrix, stage.first_product);
      }
    }
    return;
  }
  DecodeBlock block{memory, x, h, parts, ring, program.launches[blockIdx.x] + 1};
  fetch_stage(program, 0, memory);
  fetch_stage(program, 1, memory);
  decode_sync();
  // No warp gets a stage ahead of another: in each of them all meet.
#pragma unroll 1
  for (int i = 0; i < program.count; ++i) {
    const DecodeStage& stage = memory.stages[i % 4];
    fetch_stage(program, i + 2, memory);
    if (threadIdx.x == 0) atomicExch(&memory.stage, i);
    const bool normed = stage.kind == DecodeStage::Kind::norm_product;
    if (normed)
      normed_rows(stage.norm, block);
    else
      mixer_rows(stage.mixer, stage.first_unit, block);
    const DecodeMatrix& matrix = normed ? stage.norm.matrix : stage.mixer.matrix;
    if (matrix.data != nullptr)
      multiply(matrix, stage.first_product, normed ? stage.norm.rows : stage.mixer.rows, block,
               normed ? store_of(stage.norm) : store_of(stage.mixer));
  }
  decode_sync();
  if (threadIdx.x == 0) program.launches[blockIdx.x] = block.launch;
}

/// Shared memory before the ring, and what is left for it, with so many bytes of x and of the stream.
int64_t bytes_before_ring(int bytes) { return (int64_t{sizeof(BlockMemory)} + bytes + 127) / 128 * 128; }
int slots_behind(int bytes) {
  const int64_t count = (kMostSharedBytes - bytes_before_ring(bytes)) / kSlotBytes;
  return static_cast<int>(std::clamp(count, int64_t{0}, int64_t{kMostSlots}));
}
int x_bytes_of(const DecodeMatrix& m, int rows) { return rows * x_stride(m.inputs) * 2; }
int h_bytes_of(const NormProduct& stage) { return stage.rows * stage.matrix.inputs * 4; }

/// `stream`: columns of the stream beside x.
bool product_serves(const DecodeMatrix& m, int rows, int stream, int stride) {
  return rows <= kMostProductRows && m.inputs % 8 == 0 && m.stride % 8 == 0 && in_packs(m.data) &&
         stride % 2 == 0 &&
         slots_behind(x_bytes_of(m, rows) + rows * stream * 4 + part_floats(rows) * 4) >= kFewestSlots;
}

}  // namespace

bool decode_serves(const NormProduct& stage) {
  return stage.rows >= 1 && stage.matrix.inputs <= kSpanPiece * kMostSpanPieces &&
         product_serves(stage.matrix, stage.rows, stage.matrix.inputs, stage.product_stride) &&
         in_packs(stage.h) && in_packs(stage.y) && in_packs(stage.subln) && in_packs(stage.weight);
}

bool decode_serves(const MixerProduct& stage) {
  const int width = stage.branches * stage.inner, span = width / stage.spans;
  return stage.rows >= 1 && stage.head_dim % kFewChannels == 0 && stage.states % 4 == 0 &&
         stage.states <= kMostStates && span % kSpanPiece == 0 && width / kSpanPiece <= kMostSpanPieces &&
         stage.columns() % 8 == 0 && stage.projected_stride % 8 == 0 && in_packs(stage.projected) &&
         in_packs(stage.conv_weight) && in_packs(stage.state) && in_packs(stage.norm) &&
         (stage.sections == 0 || width / stage.sections % 8 == 0) &&
         int64_t{stage.rows} * width / kFewChannels < kMostDivided &&
         int64_t{kMostProductRows} * stage.branches * 2 * stage.groups * stage.states < kMostDivided &&
         (stage.matrix.data == nullptr ||
          // The product of 2D columns goes to a stream of D.
          product_serves(stage.matrix, stage.rows, width / 2, stage.product_stride));
}

cudaError_t decode_chain(const DecodeStage* stages, int count, uint32_t* launches, cudaStream_t stream) {
  const auto grid = static_cast<int>(multiprocessors());
  DecodeProgram program;
  program.count = count, program.launches = launches;
  program.x_bytes = program.h_bytes = program.part_bytes = 0;
  int dealt = 0;  // the block whose turn it is
  const auto deal = [&](int parts) {
    const int first = dealt;
    dealt = (dealt + parts) % grid;
    return first;
  };
  for (int i = 0; i < count; ++i) {
    DecodeStage& stage = program.stages[i] = stages[i];
    const bool mixer = stage.kind == DecodeStage::Kind::mixer_product;
    const DecodeMatrix& matrix = mixer ? stage.mixer.matrix : stage.norm.matrix;
    if (mixer) stage.first_unit = deal(StateUnit::count(stage.mixer));
    if (!mixer) program.h_bytes = std::max(program.h_bytes, h_bytes_of(stage.norm));
    if (matrix.data == nullptr) {
      program.x_bytes = std::max(program.x_bytes, stage.mixer.branches * stage.mixer.inner * 4);
      continue;
    }
    stage.first_product = deal(product_groups(matrix));
    const int rows = mixer ? stage.mixer.rows : stage.norm.rows;
    program.x_bytes = std::max(program.x_bytes, x_bytes_of(matrix, rows));
    program.part_bytes = std::max(program.part_bytes, part_floats(rows) * 4);
  }
  program.x_bytes = (program.x_bytes + 15) / 16 * 16;
  const int other_bytes = program.x_bytes + program.h_bytes + program.part_bytes;
  program.slots = slots_behind(other_bytes);
  if (program.slots == 0 || grid > kMostDecodeBlocks) return cudaErrorInvalidConfiguration;
  const auto shared =
      static_cast<size_t>(bytes_before_ring(other_bytes) + int64_t{program.slots} * kSlotBytes);
  const cudaError_t error = cudaFuncSetAttribute(
      decode_chain_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error != cudaSuccess) return error;
  // Blocks that wait for each other must all be there: the launch fails otherwise.
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(grid));
  config.blockDim = dim3(kDecodeBlockThreads);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &together;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, decode_chain_kernel, program);
}

}  // namespace dm::kernels::cuda
