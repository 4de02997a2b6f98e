#pragma once
// Walking a row of elements vector by vector. Included by *_simd.cpp files only.

#include "kernels/simd/vector.h"

namespace dm::kernels::DM_SIMD_LEVEL {

/// Reads and writes whole vectors; keep() leaves them as they are.
template <class T>
struct Whole {
  DM_INLINE Vec<T> get(const T* from) const { return load(from); }
  DM_INLINE void put(T* to, const Vec<T>& v) const { store(to, v); }
  DM_INLINE Vec<T> keep(const Vec<T>& v, const Vec<T>& = Vec<T>{}) const { return v; }
};

/// Reads and writes the first `count` lanes; reads zeros beyond, and keep() puts `beyond` there.
template <class T>
struct Part {
  int64_t count;
  DM_INLINE Vec<T> get(const T* from) const { return load_part(from, count); }
  DM_INLINE void put(T* to, const Vec<T>& v) const { store_part(to, v, count); }
  DM_INLINE Vec<T> keep(const Vec<T>& v, const Vec<T>& beyond = Vec<T>{}) const {
    return lanes_from<T>(count) ? beyond : v;
  }
};

/// f(i, access) for i = begin, begin + kLanes, ..: whole vectors while they fit, then the rest of the row.
template <class T, class F>
DM_INLINE void for_row(int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + kLanes<T> <= end; i += kLanes<T>) f(i, Whole<T>{});
  if (i < end) f(i, Part<T>{end - i});
}

/// Σ f(i, access) over a row: in vectors of T over stretches of 256 elements, these in float64. f must give
/// zeros in lanes beyond the row: products of what it read do, anything else goes through access.keep().
template <class T, class F>
DM_INLINE double sum_row(int64_t begin, int64_t end, F&& f) {
  double total = 0;
  for (int64_t stretch = begin; stretch < end; stretch += 256) {
    Vec<T> sum{};
    for_row<T>(stretch, stretch + 256 < end ? stretch + 256 : end,
               [&](int64_t i, auto access) { sum += f(i, access); });
    total += static_cast<double>(sum_lanes<T>(sum));
  }
  return total;
}

}  // namespace dm::kernels::DM_SIMD_LEVEL
