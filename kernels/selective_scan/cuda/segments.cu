// What a segment does to its state S is linear: S_end = local + exp(a Σ Δ) S_start, with nothing of S_start
// where a document begins inside. Back in time the same holds for the gradient of S.

#include "kernels/selective_scan/cuda/launch.cuh"
#include "kernels/selective_scan/cuda/scan.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 16;  // tokens

/// The recurrence forward: S ← decay S + input v, with input Δ x and v = B. Backward in time:
/// dS ← decay (dS + input v), with input dy and v = C.
template <class Of, bool kBack>
__global__ void __launch_bounds__(kThreads) segment_kernel(const SelectiveInputs in, const Rows inputs,
                                                           const Rows all_vectors, const Segments segments) {
  constexpr int kLanes = Of::kLanes, kStates = Of::kStates, kChannels = kThreads / kLanes;
  __shared__ float input[kTile][kChannels], dt[kTile][kChannels];
  __shared__ alignas(16) float vector[kTile][Of::kWidth];
  __shared__ bool fresh[kTile];
  const Place place(in.shape, segments);
  const int64_t first_channel = int64_t{blockIdx.x} * kChannels;
  const Rows vectors = of_group(in, all_vectors, first_channel);
  const int lane = threadIdx.x % kLanes, channel = threadIdx.x / kLanes;
  const StatePart<Of> part(in.shape, first_channel + channel, lane);
  float a2[kStates], state[kStates] = {}, span = 0.f;
  part.load(in.a, a2);
#pragma unroll
  for (int i = 0; i < kStates; ++i) a2[i] *= kLog2E;
  bool cut = false;

  const int64_t row = place.row * in.shape.length, tiles = (place.end - place.begin + kTile - 1) / kTile;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t t = place.begin + (kBack ? tiles - 1 - tile : tile) * kTile;
    __syncthreads();
    for (int i = threadIdx.x; i < kTile * kChannels; i += kThreads) {
      const int token = i / kChannels, c = i % kChannels;
      const bool there = t + token < place.end && first_channel + c < in.shape.channels;
      dt[token][c] = there ? step_of(in, read(in.dt, row + t + token, first_channel + c),
                                     step_bias(in, first_channel + c))
                           : 0.f;
      const float value = there ? read(inputs, row + t + token, first_channel + c) : 0.f;
      input[token][c] = kBack ? value : value * dt[token][c];
    }
    for (int i = threadIdx.x; i < kTile * Of::kWidth; i += kThreads) {
      const int token = i / Of::kWidth, n = i % Of::kWidth;
      vector[token][n] =
          t + token < place.end && n < in.shape.states ? read(vectors, row + t + token, n) : 0.f;
    }
    if (threadIdx.x < kTile)
      fresh[threadIdx.x] = t + threadIdx.x < place.end && begins(in, place.row, t + threadIdx.x);
    __syncthreads();
#pragma unroll 4
    for (int step = 0; step < kTile; ++step) {
      const int token = kBack ? kTile - 1 - step : step;
      span += dt[token][channel];
      cut = cut || fresh[token];
#pragma unroll
      for (int i = 0; i < kStates; ++i) {
        const float decay = exp2_fast(dt[token][channel] * a2[i]);
        const float in_state = input[token][channel] * vector[token][4 * lane + Of::state(i)];
        if (kBack)
          state[i] = fresh[token] ? 0.f : decay * (state[i] + in_state);
        else
          state[i] = decay * (fresh[token] ? 0.f : state[i]) + in_state;
      }
    }
  }
  const int64_t index = place.row * segments.count + place.segment;
  part.store(state_block(segments.states, in.shape, index), state);
  if (lane == 0 && first_channel + channel < in.shape.channels)
    segments.spans[index * in.shape.channels + first_channel + channel] = cut ? INFINITY : span;
}

/// A thread has one state of one channel and goes through the segments, from what stands before the first
/// one (`outer`, or zero), each time leaving what the segment starts from.
template <bool kBack>
__global__ void __launch_bounds__(kThreads)
    chain_kernel(const SelectiveInputs in, const float* outer, const Segments segments) {
  const int64_t size = in.shape.channels * in.shape.states, row = blockIdx.y;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= size) return;
  const float a2 = in.a[i] * kLog2E;
  float state = outer == nullptr ? 0.f : outer[row * size + i];
  for (int64_t step = 0; step < segments.count; ++step) {
    const int64_t index = row * segments.count + (kBack ? segments.count - 1 - step : step);
    float& at = segments.states[index * size + i];
    const float local = at, span = segments.spans[index * in.shape.channels + i / in.shape.states];
    at = state;
    state = isinf(span) ? local : local + exp2_fast(a2 * span) * state;
  }
}

/// The same to the end: what all segments together do to a state.
template <bool kBack>
__global__ void __launch_bounds__(kThreads)
    join_kernel(const SelectivePassage args, const float* outer, const Segments segments) {
  const SelectiveShape& shape = args.in.shape;
  const int64_t size = shape.channels * shape.states, row = blockIdx.y;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= size) return;
  const float a2 = args.in.a[i] * kLog2E;
  float state = outer == nullptr ? 0.f : outer[row * size + i], whole = 0.f;
  for (int64_t step = 0; step < segments.count; ++step) {
    const int64_t index = row * segments.count + (kBack ? segments.count - 1 - step : step);
    const float local = segments.states[index * size + i],
                span = segments.spans[index * shape.channels + i / shape.states];
    state = isinf(span) ? local : local + exp2_fast(a2 * span) * state;
    whole += span;
  }
  args.state[row * size + i] = state;
  args.decay[row * size + i] = isinf(whole) ? 0.f : exp2_fast(a2 * whole);
}

/// What each segment does to a state.
template <bool kBack>
cudaError_t walk_segments(const SelectiveInputs& in, const Rows& inputs, const Rows& vectors,
                          const Segments& segments, cudaStream_t stream) {
  const SelectiveShape& shape = in.shape;
  return for_lanes(shape, [&]<class Of>() {
    segment_kernel<Of, kBack><<<grid_of(shape, segments, kThreads / Of::kLanes), kThreads, 0, stream>>>(
        in, inputs, vectors, segments);
    return cudaGetLastError();
  });
}

/// A thread an element of the states of a row.
dim3 grid_of_states(const SelectiveShape& shape) {
  return dim3(static_cast<unsigned>((shape.channels * shape.states + kThreads - 1) / kThreads),
              static_cast<unsigned>(shape.rows));
}

template <bool kBack>
cudaError_t find(const SelectiveInputs& in, const Rows& inputs, const Rows& vectors, const float* outer,
                 const Segments& segments, cudaStream_t stream) {
  if (segments.count == 1) return cudaSuccess;
  if (const cudaError_t error = walk_segments<kBack>(in, inputs, vectors, segments, stream);
      error != cudaSuccess)
    return error;
  chain_kernel<kBack><<<grid_of_states(in.shape), kThreads, 0, stream>>>(in, outer, segments);
  return cudaGetLastError();
}

template <bool kBack>
cudaError_t pass(const SelectivePassage& args, const Rows& inputs, const Rows& vectors, const float* outer,
                 cudaStream_t stream) {
  const SelectiveShape& shape = args.in.shape;
  Segments segments = cut_segments(shape, nullptr);  // its memory is there for a single one too
  segments.states = static_cast<float*>(args.workspace);
  segments.spans = segments.states + shape.rows * segments.count * shape.channels * shape.states;
  if (const cudaError_t error = walk_segments<kBack>(args.in, inputs, vectors, segments, stream);
      error != cudaSuccess)
    return error;
  join_kernel<kBack><<<grid_of_states(shape), kThreads, 0, stream>>>(args, outer, segments);
  return cudaGetLastError();
}

}  // namespace

cudaError_t find_segment_states(const SelectiveInputs& in, const Segments& segments, cudaStream_t stream) {
  return find<false>(in, in.x, in.b, in.initial_state, segments, stream);
}

cudaError_t find_segment_gradients(const SelectiveBackward& args, const Segments& segments,
                                   cudaStream_t stream) {
  return find<true>(args.in, args.dy, args.in.c, args.dfinal_state, segments, stream);
}

int64_t selective_passage_bytes(const SelectiveShape& shape) {
  return shape.rows * cut_segments(shape, nullptr).count * shape.channels * (shape.states + 1) *
         int64_t{sizeof(float)};
}

cudaError_t selective_passage(const SelectivePassage& args, cudaStream_t stream) {
  if (args.dy == nullptr) return pass<false>(args, args.in.x, args.in.b, args.in.initial_state, stream);
  const Rows dy{args.dy, args.in.shape.channels, args.in.x.element};
  return pass<true>(args, dy, args.in.c, args.dfinal_state, stream);
}

}  // namespace dm::kernels::cuda
