#include "kernels/ssd/cuda/ssd_cuda.cuh"

#include "kernels/ssd/cuda/fast.cuh"
#include "kernels/ssd/cuda/plain.cuh"

namespace dm::kernels::cuda {
namespace {

/// By 256 threads, for the first of them; thread i adds parts i, i + 256, ..., then the threads are added
/// pairwise.
__device__ float sum_of_head(const float* parts, int64_t count, int64_t fold) {
  __shared__ float sums[256];
  const int thread = threadIdx.x;
  const int64_t head = blockIdx.x, heads = gridDim.x;
  float sum = 0.f;
  for (int64_t i = thread; i < count * fold; i += 256)
    sum += parts[(i / fold * heads + head) * fold + i % fold];
  sums[thread] = sum;
  for (int step = 128; step > 0; step /= 2) {
    __syncthreads();
    if (thread < step) sum += sums[thread + step], sums[thread] = sum;
  }
  return sum;
}

/// One block a head.
__global__ void __launch_bounds__(256) ssd_sum_kernel(const HeadSums sums, float* da, float* dd) {
  const float a = sum_of_head(sums.da_parts, sums.da_count, sums.fold);
  __syncthreads();
  const float d = sum_of_head(sums.dd_parts, sums.dd_count, sums.fold);
  if (threadIdx.x != 0) return;
  da[blockIdx.x] = a;
  dd[blockIdx.x] = d;
}

/// ddt[i] = Σ parts[slice, i, j] over slices and the kernels' heads of one.
__global__ void __launch_bounds__(256)
    ssd_sum_ddt_kernel(const float* parts, int64_t slices, int64_t fold, int64_t count, float* ddt) {
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= count) return;
  float sum = 0.f;
  for (int64_t slice = 0; slice < slices; ++slice)
    for (int64_t j = 0; j < fold; ++j) sum += parts[(slice * count + i) * fold + j];
  ddt[i] = sum;
}

bool in_pieces_of_16(const void* base, int64_t stride) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && stride % 8 == 0;
}

}  // namespace

cudaError_t sum_parts(const HeadSums& sums, float* da, float* dd, cudaStream_t stream) {
  ssd_sum_kernel<<<static_cast<unsigned>(sums.heads), 256, 0, stream>>>(sums, da, dd);
  return cudaGetLastError();
}

cudaError_t count_multiprocessors(int& count) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
}

SsdPath ssd_path(const SsdInputs& in) {
  const bool served = in.element == Element::kBFloat16 && is_fast_shape(in.shape);
  const bool aligned = in_pieces_of_16(in.x, in.x_stride) && in_pieces_of_16(in.b, in.b_stride) &&
                       in_pieces_of_16(in.c, in.c_stride);
  return served && aligned ? SsdPath::kFast : SsdPath::kPlain;
}

int64_t ssd_saved_bytes(const SsdShape& shape, SsdPath path) {
  return path == SsdPath::kFast ? FastSaved::bytes(shape) : plain_saved_bytes(shape);
}

int64_t ssd_scratch_bytes(const SsdShape& shape, SsdPath path) {
  return path == SsdPath::kFast ? DecayTable::bytes(shape) : 0;
}

int64_t ssd_workspace_bytes(const SsdShape& shape, SsdPath path) {
  return path == SsdPath::kFast ? FastWorkspace::bytes(shape) : plain_workspace_bytes(shape);
}

int64_t ssd_forward_bytes(const SsdShape& shape, SsdPath path) {
  return path == SsdPath::kFast ? WalkSegments::bytes(shape) : 0;
}

cudaError_t ssd_forward(const SsdForward& args, SsdPath path, cudaStream_t stream) {
  if (path == SsdPath::kPlain) return plain_forward(args, stream);
  const SsdShape& shape = args.in.shape;
  const FastSaved saved = FastSaved::at(args.saved, shape);
  const WalkSegments segments = WalkSegments::at(args.workspace, shape);
  int multiprocessors = 0;
  cudaError_t error = count_multiprocessors(multiprocessors);
  if (error == cudaSuccess && !args.passed) error = make_decay_table(args.in, saved.table, stream);
  if (error != cudaSuccess) return error;
  const WalkCut cut = pass_cut(shape, multiprocessors);
  if (cut.segments == 1) return fast_forward(args, saved, cut, args.in.initial_state, stream);
  if (!args.passed) error = fast_state_walk(args.in, saved, segments, nullptr, nullptr, stream);
  if (error == cudaSuccess)
    error = join_segments(shape, segments, true, true, args.in.initial_state, nullptr, nullptr, stream);
  return error == cudaSuccess ? fast_forward(args, saved, cut, segments.states, stream) : error;
}

namespace {

/// The gradients of the states that the tiles leave, to work.dstates, and args.dinitial_state.
cudaError_t state_gradients(const SsdBackward& args, const FastSaved& saved, const FastWorkspace& work,
                            cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  int multiprocessors = 0;
  cudaError_t error = count_multiprocessors(multiprocessors);
  if (error != cudaSuccess) return error;
  const WalkCut cut = pass_cut(shape, multiprocessors);
  if (cut.segments == 1) return fast_state_backward(args, saved, work, cut, args.dfinal_state, stream);
  const WalkSegments segments = WalkSegments::at(work.segments, shape);
  if (!args.passed)
    error = fast_gradient_walk(args.in, args.dy, args.dy_stride, nullptr, saved, segments, nullptr, nullptr,
                               stream);
  if (error == cudaSuccess)
    error =
        join_segments(shape, segments, false, true, args.dfinal_state, args.dinitial_state, nullptr, stream);
  return error == cudaSuccess ? fast_state_backward(args, saved, work, cut, segments.states, stream) : error;
}

cudaError_t sum_ddt(const SsdBackward& args, const FastWorkspace& work, cudaStream_t stream) {
  const SsdShape& shape = args.in.shape;
  const int64_t count = shape.rows * shape.length * shape.heads;
  ssd_sum_ddt_kernel<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(
      work.ddt_parts, slices_of(shape), fold_of(shape), count, args.ddt);
  return cudaGetLastError();
}

}  // namespace

cudaError_t ssd_backward(const SsdBackward& args, SsdPath path, cudaStream_t stream) {
  if (path == SsdPath::kPlain) return plain_backward(args, stream);
  const SsdShape& shape = args.in.shape;
  const FastSaved saved = FastSaved::at(args.saved, shape);
  const FastWorkspace work = FastWorkspace::at(args.workspace, shape);
  cudaError_t error = state_gradients(args, saved, work, stream);
  if (error == cudaSuccess) error = fast_main_backward(args, saved, work, stream);
  if (error == cudaSuccess && work.ddt_parts != nullptr) error = sum_ddt(args, work, stream);
  const int64_t tiles = shape.rows * tiles_of(shape.length);
  if (error == cudaSuccess)
    error = sum_parts({.da_parts = work.da_parts,
                       .dd_parts = work.dd_parts,
                       .da_count = slices_of(shape) * tiles,
                       .dd_count = tiles,
                       .heads = shape.heads,
                       .fold = fold_of(shape)},
                      args.da, args.dd, stream);
  return error;
}

cudaError_t ssd_passage(const SsdPassage& args, SsdPath path, cudaStream_t stream) {
  if (path == SsdPath::kPlain) return plain_passage(args, stream);
  const SsdShape& shape = args.in.shape;
  const bool forward = args.dy == nullptr;
  const FastSaved saved = FastSaved::at(args.saved, shape);
  const WalkSegments segments =
      WalkSegments::at(forward ? args.workspace : FastWorkspace::at(args.workspace, shape).segments, shape);
  const float* const start = forward ? args.in.initial_state : args.dfinal_state;
  cudaError_t error = forward ? make_decay_table(args.in, saved.table, stream) : cudaSuccess;
  if (error != cudaSuccess) return error;
  error = forward ? fast_state_walk(args.in, saved, segments, args.state, args.decay, stream)
                  : fast_gradient_walk(args.in, args.dy, args.dy_stride, start, saved, segments, args.state,
                                       args.decay, stream);
  if (error != cudaSuccess || segments.count == 1) return error;
  return join_segments(shape, segments, forward, false, start, args.state, args.decay, stream);
}

}  // namespace dm::kernels::cuda
