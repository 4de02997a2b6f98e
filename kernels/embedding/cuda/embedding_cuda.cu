#include "kernels/embedding/cuda/embedding_cuda.cuh"

#include <math_constants.h>

#include <algorithm>
#include <cub/device/device_radix_sort.cuh>
#include <utility>

#include "kernels/device/elements.cuh"

namespace dm::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32;     // sorted tokens of a thread block of the backward pass
constexpr int kBatch = 8;     // loads a thread has in flight there
constexpr int kChannels = 4;  // of a thread

template <class T>
using Row = Pack<T, kChannels>;

/// Widths that are not made of whole packs, or rows that do not start at one, go element by element.
template <class T>
bool packs_fit(const void* a, const void* b, int64_t width) {
  const auto starts = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b);
  return width % kChannels == 0 && starts % 16 == 0;
}

template <class T, bool kPacks>
__global__ void __launch_bounds__(kThreads) gather_kernel(const EmbeddingForward args) {
  constexpr int kEach = kPacks ? kChannels : 1;
  const int64_t columns = args.width / kEach, count = args.tokens * columns;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t id = args.ids[i / columns], column = i % columns * kEach;
    const bool known = id >= 0 && id < args.vocabulary;
    const T* const from = static_cast<const T*>(args.weight) + (known ? id : 0) * args.width + column;
    T* const to = static_cast<T*>(args.y) + i * kEach;
    if constexpr (kPacks) {
      if (known) {
        Row<T>::of(from).to(to);
      } else {
        const float nothing[kChannels] = {CUDART_NAN_F, CUDART_NAN_F, CUDART_NAN_F, CUDART_NAN_F};
        Row<T>::of(nothing).to(to);
      }
    } else {
      put(to, known ? to_float(*from) : CUDART_NAN_F);
    }
  }
}

/// Unknown ids come last, as the id V.
__global__ void __launch_bounds__(kThreads)
    key_kernel(const int64_t* ids, int64_t tokens, int64_t vocabulary, uint32_t* keys, uint32_t* order) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= tokens) return;
  keys[t] = static_cast<uint32_t>(ids[t] >= 0 && ids[t] < vocabulary ? ids[t] : vocabulary);
  order[t] = static_cast<uint32_t>(t);
}

/// The sorted tokens, and what a tile cannot finish: the sum of its tokens whose id began in a tile before
/// (`heads`), and of those whose id goes on in the next one (`tails`).
struct Sorted {
  const uint32_t* ids;
  const uint32_t* tokens;
  float* heads;  // [tiles, D]
  float* tails;  // [tiles, D]
};

template <bool kPacks>
struct Channels {
  float v[kPacks ? kChannels : 1] = {};

  template <class T>
  __device__ static Channels of(const T* from) {
    Channels c;
    if constexpr (kPacks) {
      const Row<T> row = Row<T>::of(from);
#pragma unroll
      for (int i = 0; i < kChannels; ++i) c.v[i] = row[i];
    } else {
      c.v[0] = to_float(*from);
    }
    return c;
  }
  __device__ void add(const Channels& other) {
#pragma unroll
    for (int i = 0; i < int{sizeof v / sizeof *v}; ++i) v[i] += other.v[i];
  }
  __device__ void to(float* memory) const {
    if constexpr (kPacks)
      Row<float>::of(v).to(memory);
    else
      *memory = v[0];
  }
};

/// A block has kTile sorted tokens, a thread some of their channels.
template <class T, bool kPacks>
__global__ void __launch_bounds__(kThreads) tile_kernel(const EmbeddingBackward args, const Sorted sorted) {
  __shared__ uint32_t ids[kTile + 2];  // with the tokens before and after
  __shared__ uint32_t tokens[kTile];
  using Values = Channels<kPacks>;
  constexpr int64_t kEach = kPacks ? kChannels : 1;
  const int64_t begin = int64_t{blockIdx.x} * kTile;
  const int count = static_cast<int>(min(int64_t{kTile}, args.tokens - begin));
  const auto none = static_cast<uint32_t>(args.vocabulary) + 1;
  for (int i = threadIdx.x; i < count + 2; i += kThreads) {
    const int64_t at = begin + i - 1;
    ids[i] = at >= 0 && at < args.tokens ? sorted.ids[at] : none;
  }
  for (int i = threadIdx.x; i < count; i += kThreads) tokens[i] = sorted.tokens[begin + i];
  __syncthreads();
  for (int64_t column = threadIdx.x * kEach; column < args.width; column += kThreads * kEach) {
    Values sum;
    bool from_before = ids[0] == ids[1];
    for (int first = 0; first < count; first += kBatch) {
      Values batch[kBatch];
#pragma unroll
      for (int k = 0; k < kBatch; ++k)
        if (first + k < count)
          batch[k] = Values::of(static_cast<const T*>(args.dy) + tokens[first + k] * args.width + column);
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        const int i = first + k;
        if (i >= count) continue;
        sum.add(batch[k]);
        const bool goes_on = ids[i + 1] == ids[i + 2];
        if (goes_on && i + 1 < count) continue;
        // The last of an id here.
        const int64_t id = ids[i + 1];
        if (from_before) {
          sum.to(sorted.heads + blockIdx.x * args.width + column);
        } else if (goes_on) {
          sum.to(sorted.tails + blockIdx.x * args.width + column);
        } else if (id < args.vocabulary) {
          float* const to = args.dweight + id * args.width + column;
          sum.add(Values::of(to));
          sum.to(to);
        }
        sum = Values();
        from_before = false;
      }
    }
  }
}

/// A block has a tile whose last id goes on: it adds up what the tiles of that id have left.
template <bool kPacks>
__global__ void __launch_bounds__(kThreads) border_kernel(const EmbeddingBackward args, const Sorted sorted) {
  using Values = Channels<kPacks>;
  constexpr int64_t kEach = kPacks ? kChannels : 1;
  const int64_t tiles = gridDim.x, end = (int64_t{blockIdx.x} + 1) * kTile;
  if (end >= args.tokens) return;
  const uint32_t id = sorted.ids[end - 1];
  const bool goes_on = sorted.ids[end] == id;
  const bool began_here = end == kTile || sorted.ids[end - kTile - 1] != id;
  if (!goes_on || !began_here || id >= args.vocabulary) return;
  int64_t last = int64_t{blockIdx.x} + 1;  // tile whose first tokens have the id
  while (last + 1 < tiles && sorted.ids[(last + 1) * kTile] == id) ++last;
  for (int64_t column = threadIdx.x * kEach; column < args.width; column += kThreads * kEach) {
    Values sum = Values::of(sorted.tails + blockIdx.x * args.width + column);
#pragma unroll 8
    for (int64_t tile = blockIdx.x + 1; tile <= last; ++tile)
      sum.add(Values::of(sorted.heads + tile * args.width + column));
    float* const to = args.dweight + id * args.width + column;
    sum.add(Values::of(to));
    sum.to(to);
  }
}

int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }
int64_t tiles_of(int64_t tokens) { return (tokens + kTile - 1) / kTile; }
int bits_of(int64_t vocabulary) {
  int bits = 1;
  while (vocabulary >> bits != 0) ++bits;
  return bits;
}

/// With no memory given only `bytes` is set, as cub has it.
cudaError_t sort(void* memory, size_t& bytes, cub::DoubleBuffer<uint32_t>& keys,
                 cub::DoubleBuffer<uint32_t>& order, int64_t tokens, int64_t vocabulary,
                 cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(memory, bytes, keys, order, static_cast<int>(tokens), 0,
                                         bits_of(vocabulary), stream);
}

int64_t sort_bytes(int64_t tokens, int64_t vocabulary) {
  size_t bytes = 0;
  cub::DoubleBuffer<uint32_t> keys, order;
  return sort(nullptr, bytes, keys, order, tokens, vocabulary, nullptr) == cudaSuccess
             ? static_cast<int64_t>(bytes)
             : 0;
}

template <class T, bool kPacks>
void add_rows(const EmbeddingBackward& args, const Sorted& sorted, cudaStream_t stream) {
  const auto tiles = static_cast<unsigned>(tiles_of(args.tokens));
  tile_kernel<T, kPacks><<<tiles, kThreads, 0, stream>>>(args, sorted);
  border_kernel<kPacks><<<tiles, kThreads, 0, stream>>>(args, sorted);
}

template <class T>
void add_rows(const EmbeddingBackward& args, const Sorted& sorted, cudaStream_t stream) {
  if (packs_fit<T>(args.dy, args.dweight, args.width))
    add_rows<T, true>(args, sorted, stream);
  else
    add_rows<T, false>(args, sorted, stream);
}

template <class T>
void gather(const EmbeddingForward& args, cudaStream_t stream) {
  const bool packs = packs_fit<T>(args.weight, args.y, args.width);
  const int64_t threads = args.tokens * args.width / (packs ? kChannels : 1);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((threads + kThreads - 1) / kThreads, 1 << 20));
  const auto kernel = packs ? gather_kernel<T, true> : gather_kernel<T, false>;
  kernel<<<blocks, kThreads, 0, stream>>>(args);
}

}  // namespace

int64_t embedding_workspace_bytes(int64_t tokens, int64_t vocabulary, int64_t width) {
  return 4 * aligned(tokens * 4) + 2 * aligned(tiles_of(tokens) * width * 4) + sort_bytes(tokens, vocabulary);
}

cudaError_t embedding_forward(const EmbeddingForward& args, cudaStream_t stream) {
  if (args.tokens == 0 || args.width == 0) return cudaSuccess;
  if (args.element == Element::kFloat32)
    gather<float>(args, stream);
  else
    gather<bf16>(args, stream);
  return cudaGetLastError();
}

cudaError_t embedding_backward(const EmbeddingBackward& args, cudaStream_t stream) {
  if (args.tokens == 0 || args.width == 0) return cudaSuccess;
  char* next = static_cast<char*>(args.workspace);
  const auto take = [&](int64_t bytes) { return std::exchange(next, next + aligned(bytes)); };
  const auto words = [&] { return reinterpret_cast<uint32_t*>(take(args.tokens * 4)); };
  const auto rows = [&] { return reinterpret_cast<float*>(take(tiles_of(args.tokens) * args.width * 4)); };
  cub::DoubleBuffer<uint32_t> keys(words(), words()), order(words(), words());
  Sorted sorted{.ids = nullptr, .tokens = nullptr, .heads = rows(), .tails = rows()};
  const auto blocks = static_cast<unsigned>((args.tokens + kThreads - 1) / kThreads);
  key_kernel<<<blocks, kThreads, 0, stream>>>(args.ids, args.tokens, args.vocabulary, keys.Current(),
                                              order.Current());
  auto bytes = static_cast<size_t>(sort_bytes(args.tokens, args.vocabulary));
  const cudaError_t error = sort(next, bytes, keys, order, args.tokens, args.vocabulary, stream);
  if (error != cudaSuccess) return error;
  sorted.ids = keys.Current();
  sorted.tokens = order.Current();
  if (args.element == Element::kFloat32)
    add_rows<float>(args, sorted, stream);
  else
    add_rows<bf16>(args, sorted, stream);
  return cudaGetLastError();
}

}  // namespace dm::kernels::cuda
