#pragma once
// Vectors of one level's width over GCC's and Clang's vector extensions. Included by *_simd.cpp files only:
// everything stands in the level's namespace, since one inline function shared by two levels would be merged
// into one by the linker, and might then run on a processor that lacks its instructions. For the same reason
// those files use no templates of the standard library.

#include <cstdint>
#include <cstring>

#define DM_INLINE inline __attribute__((always_inline))
/// Marks a task: everything it calls is inlined into it, lambdas above all, so that tiles and sums stay in
/// registers.
#define DM_TASK __attribute__((flatten))

namespace dm::kernels::DM_SIMD_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float vector __attribute__((vector_size(kVectorBytes)));
  typedef int32_t integer;
  typedef int32_t integers __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorTypes<double> {
  typedef double vector __attribute__((vector_size(kVectorBytes)));
  typedef int64_t integer;
  typedef int64_t integers __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vec = typename VectorTypes<T>::vector;
template <class T>
using IntVec = typename VectorTypes<T>::integers;  // also the mask that a comparison gives
template <class T>
using Lane = typename VectorTypes<T>::integer;
template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
DM_INLINE Vec<T> splat(T value) {
  return Vec<T>{} + value;
}

template <class T>
DM_INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
DM_INLINE void store(T* to, const Vec<T>& v) {
  std::memcpy(to, &v, sizeof v);
}

/// The first `count` lanes (fewer than all of them), zeros beyond.
template <class T>
DM_INLINE Vec<T> load_part(const T* from, int64_t count) {
  Vec<T> v{};
  T* lanes = reinterpret_cast<T*>(&v);
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return v;
}

template <class T>
DM_INLINE void store_part(T* to, const Vec<T>& v, int64_t count) {
  const T* lanes = reinterpret_cast<const T*>(&v);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

/// A mask of the lanes `first` and above; `first` may lie outside the vector.
template <class T>
DM_INLINE IntVec<T> lanes_from(int64_t first) {
  IntVec<T> number;
  for (int i = 0; i < kLanes<T>; ++i) number[i] = i;
  return number >= (IntVec<T>{} + static_cast<Lane<T>>(first));
}

template <int... I>
struct Indices {};
template <int Count, int... I>
struct MakeIndices : MakeIndices<Count - 1, Count - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using type = Indices<I...>;
};

template <int Step, class V, int... I>
DM_INLINE V swap_blocks(const V& v, Indices<I...>) {
  return __builtin_shufflevector(v, v, (I ^ Step)...);
}
template <int Step, class V, int... I>
DM_INLINE void exchange_blocks(V& a, V& b, Indices<I...>) {
  constexpr int lanes = sizeof...(I);
  const V low = __builtin_shufflevector(a, b, ((I & Step) ? I - Step + lanes : I)...);
  b = __builtin_shufflevector(a, b, ((I & Step) ? I + lanes : I + Step)...);
  a = low;
}

/// Sum of all lanes, in a tree of fixed shape.
template <class T, int Step = kLanes<T> / 2>
DM_INLINE T sum_lanes(const Vec<T>& v) {
  if constexpr (Step == 0) {
    return v[0];
  } else {
    return sum_lanes<T, Step / 2>(v + swap_blocks<Step>(v, typename MakeIndices<kLanes<T>>::type{}));
  }
}

template <class T, int Step = kLanes<T> / 2>
DM_INLINE T max_lanes(const Vec<T>& v) {
  if constexpr (Step == 0) {
    return v[0];
  } else {
    const Vec<T> other = swap_blocks<Step>(v, typename MakeIndices<kLanes<T>>::type{});
    return max_lanes<T, Step / 2>(v > other ? v : other);
  }
}

/// Transposes a square of kLanes x kLanes held in rows.
template <class T, int Step = 1>
DM_INLINE void transpose_square(Vec<T>* rows) {
  if constexpr (Step < kLanes<T>) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i)
      if ((i & Step) == 0)
        exchange_blocks<Step>(rows[i], rows[i + Step], typename MakeIndices<kLanes<T>>::type{});
    transpose_square<T, 2 * Step>(rows);
  }
}

/// to[c, r] = from[r, c] for rows x columns elements, both multiples of kLanes.
template <class T>
void transpose(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; r += kLanes<T>)
    for (int64_t c = 0; c < columns; c += kLanes<T>) {
      Vec<T> square[kLanes<T>];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes<T>; ++i) square[i] = load(from + (r + i) * from_stride + c);
      transpose_square<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes<T>; ++i) store(to + (c + i) * to_stride + r, square[i]);
    }
}

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float least = -87.0f;  // exp is 0 below: results would leave the normal numbers at -87.3
  static constexpr float rounder = 0x1.8p23f;    // adding it leaves the nearest integer in the low bits
  static constexpr float ln2_high = 0x1.63p-1f;  // with few bits, so that n * ln2_high is exact
  static constexpr float ln2_low = -2.12194440e-4f;
  static constexpr int mantissa_bits = 23;
  static constexpr int degree = 7;  // remainder of Taylor's series on |r| <= ln(2)/2: 5e-9
};
template <>
struct ExpConstants<double> {
  static constexpr double least = -708.0;
  static constexpr double rounder = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42feep-1;
  static constexpr double ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr int mantissa_bits = 52;
  static constexpr int degree = 13;  // 4e-18
};

template <class T>
constexpr T inverse_factorial(int k) {
  double product = 1;
  for (int i = 2; i <= k; ++i) product *= i;
  return static_cast<T>(1 / product);
}

/// exp(x) for x <= 0, within about one unit in the last place; 0 below ExpConstants::least; NaN stays NaN.
/// exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln(2) / 2.
template <class T>
DM_INLINE Vec<T> exp_nonpositive(const Vec<T>& argument) {
  using K = ExpConstants<T>;
  const IntVec<T> vanishes = argument < splat<T>(K::least);
  const Vec<T> x = vanishes ? splat<T>(K::least) : argument;
  const Vec<T> shifted = x * T(1.4426950408889634074) + K::rounder;
  const Vec<T> n = shifted - K::rounder;
  const Vec<T> r = (x - n * K::ln2_high) - n * K::ln2_low;
  Vec<T> p = splat<T>(inverse_factorial<T>(K::degree));
#pragma GCC unroll 16
  for (int k = K::degree - 1; k >= 0; --k) p = p * r + inverse_factorial<T>(k);
  IntVec<T> power;
  std::memcpy(&power, &shifted, sizeof power);
  const Vec<T> one = splat<T>(T(1));
  IntVec<T> one_bits;
  std::memcpy(&one_bits, &one, sizeof one_bits);
  power = (power << K::mantissa_bits) + one_bits;
  Vec<T> scale;
  std::memcpy(&scale, &power, sizeof scale);
  return vanishes ? Vec<T>{} : p * scale;
}

/// 1 / (1 + exp(-x)) without overflow.
template <class T>
DM_INLINE Vec<T> sigmoid(const Vec<T>& x) {
  const IntVec<T> negative = x < T(0);
  const Vec<T> e = exp_nonpositive<T>(negative ? x : -x);
  return (negative ? e : splat<T>(T(1))) / (e + T(1));
}

}  // namespace dm::kernels::DM_SIMD_LEVEL
