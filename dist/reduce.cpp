#include "dist/reduce.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <type_traits>

#include "core/error.h"

namespace dm::dist {
namespace {

struct BFloat16 {
  uint16_t bits;

  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  static BFloat16 rounded(float value) {
    if (std::isnan(value)) return {0x7fc0};
    const auto wide = std::bit_cast<uint32_t>(value);
    return {static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16)};
  }
};

// What a sum of T is kept in: unsigned for integers, so that they wrap instead of being undefined.
template <class T>
struct Accumulator {
  using type = T;
};
template <>
struct Accumulator<BFloat16> {
  using type = float;
};
template <>
struct Accumulator<int32_t> {
  using type = uint32_t;
};
template <>
struct Accumulator<int64_t> {
  using type = uint64_t;
};

template <class T>
T stored(typename Accumulator<T>::type value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return BFloat16::rounded(value);
  else
    return static_cast<T>(value);
}

template <class T>
struct Sum {
  using Value = typename Accumulator<T>::type;
  static Value apply(Value a, Value b) { return static_cast<Value>(a + b); }
};

/// `Better(b, a)`: b takes a's place. A NaN on either side stays.
template <class T, class Better>
struct Extreme {
  using Value = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
  static Value apply(Value a, Value b) {
    if constexpr (std::is_floating_point_v<Value>) {
      if (a != a) return a;
      if (b != b) return b;
    }
    return Better{}(b, a) ? b : a;
  }
};

/// Block by block, so that the accumulators stay in cache, the inner loops vectorise and `output` may be a
/// piece.
template <class T, class Op>
void reduce(const std::vector<const void*>& pieces, void* output, int64_t count) {
  using Value = typename Op::Value;
  constexpr int64_t kBlock = 1024;
  std::array<Value, kBlock> sums;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(pieces[0]) + begin;
    for (int64_t i = 0; i < size; ++i) sums[i] = static_cast<Value>(first[i]);
    for (size_t r = 1; r < pieces.size(); ++r) {
      const T* piece = static_cast<const T*>(pieces[r]) + begin;
      for (int64_t i = 0; i < size; ++i) sums[i] = Op::apply(sums[i], static_cast<Value>(piece[i]));
    }
    T* out = static_cast<T*>(output) + begin;
    for (int64_t i = 0; i < size; ++i) out[i] = stored<T>(sums[i]);
  }
}

template <class T>
void dispatch(Reduce op, const std::vector<const void*>& pieces, void* output, int64_t count) {
  using Ordered = typename Extreme<T, std::less<>>::Value;
  switch (op) {
    case Reduce::sum: return reduce<T, Sum<T>>(pieces, output, count);
    case Reduce::max: return reduce<T, Extreme<T, std::greater<Ordered>>>(pieces, output, count);
    case Reduce::min: return reduce<T, Extreme<T, std::less<Ordered>>>(pieces, output, count);
  }
}

}  // namespace

void reduce_pieces(Reduce op, DType dtype, const std::vector<const void*>& pieces, void* output,
                   int64_t count) {
  DM_CHECK(!pieces.empty(), "a reduction of no pieces");
  switch (dtype) {
    case DType::u8: return dispatch<uint8_t>(op, pieces, output, count);
    case DType::u16: return dispatch<uint16_t>(op, pieces, output, count);
    case DType::u32: return dispatch<uint32_t>(op, pieces, output, count);
    case DType::u64: return dispatch<uint64_t>(op, pieces, output, count);
    case DType::i32: return dispatch<int32_t>(op, pieces, output, count);
    case DType::i64: return dispatch<int64_t>(op, pieces, output, count);
    case DType::bf16: return dispatch<BFloat16>(op, pieces, output, count);
    case DType::f32: return dispatch<float>(op, pieces, output, count);
    case DType::f64: return dispatch<double>(op, pieces, output, count);
  }
}

}  // namespace dm::dist
