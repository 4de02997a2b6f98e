#include "kernels/ssd/cuda/decay.cuh"

#include "kernels/ssd/cuda/documents.cuh"
#include "kernels/ssd/cuda/thread.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

constexpr int kThreads = 256;
constexpr int kHeads = 32;  // of a block

/// A block has one tile of one row and up to 32 heads. A warp sums one head after another, two tokens a lane.
__global__ void __launch_bounds__(kThreads)
    ssd_decay_kernel(const SsdInputs in, int64_t fold, const DecayTable table) {
  __shared__ float steps[kTile][kHeads + 1];
  __shared__ uint32_t halves[2];
  const int64_t tile = blockIdx.x, row = blockIdx.y, heads = in.shape.heads, length = in.shape.length;
  const int64_t begin = tile * kTile, token = row * length + begin, record = row * gridDim.x + tile;
  const int64_t first_head = int64_t{blockIdx.z} * kHeads;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int valid = static_cast<int>(min(int64_t{kTile}, length - begin));
  for (int t = warp; t < kTile; t += kThreads / 32)
    steps[t][lane] =
        t < valid && first_head + lane < heads ? in.dt[(token + t) * heads + first_head + lane] : 0.f;
  if (warp < 2) {
    const int64_t t = begin + warp * 32 + lane;
    const uint32_t half = __ballot_sync(~0u, t < length && begins_document(in, row, t));
    if (lane == 0) halves[warp] = half;
  }
  __syncthreads();
  const Documents documents{uint64_t{halves[1]} << 32 | halves[0]};
  for (int h = warp; h < kHeads && first_head + h < heads; h += kThreads / 32) {
    const float a = in.a[first_head + h] * kLog2E;
    const float2 dt = {steps[2 * lane][h], steps[2 * lane + 1][h]};
    const float2 sum = sum_since_begin({dt.x * a, dt.y * a}, documents, lane);
    for (int64_t i = 0; i < fold; ++i) {
      const int64_t to = (first_head + h) * fold + i;
      DecayRecord& out = table.records[record * heads * fold + to];
      reinterpret_cast<float2*>(out.dt)[lane] = dt;
      reinterpret_cast<float2*>(out.sum)[lane] = sum;
      if (record != 0 || lane != 0) continue;
      table.a[to] = in.a[first_head + h];
      table.d[to] = in.d[first_head + h];
      table.d[heads * fold + to] = 1.f;
    }
  }
  if (blockIdx.z == 0 && threadIdx.x == 0) table.begins[record] = documents.begins;
}

}  // namespace

cudaError_t make_decay_table(const SsdInputs& in, const DecayTable& table, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(tiles_of(in.shape.length)), static_cast<unsigned>(in.shape.rows),
                  static_cast<unsigned>((in.shape.heads + kHeads - 1) / kHeads));
  ssd_decay_kernel<<<grid, kThreads, 0, stream>>>(in, fold_of(in.shape), table);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
