#pragma once
// The inner loop of every matrix product: a tile of the result held in registers. Included by *_simd.cpp
// files only.

#include "kernels/simd/vector.h"

namespace dm::kernels::DM_SIMD_LEVEL {

/// Rows of a tile: as many as the registers hold beside two vectors of the right factor (32 registers in
/// AVX-512, else 16).
inline constexpr int kTileRows = kVectorBytes == 64 ? 8 : 4;

/// Extents of scratch matrices are rounded up to this, so that tiles and vectors of every level fit without
/// remainders.
inline constexpr int64_t kBlock = 16;
DM_INLINE constexpr int64_t padded(int64_t extent) { return (extent + kBlock - 1) / kBlock * kBlock; }

/// kTileRows rows by V vectors.
template <class T, int V>
struct Tile {
  Vec<T> rows[kTileRows][V] = {};

  /// rows[r, :] += Σ_k a[r * a_row + k * a_depth] * b[k * b_row + :]
  DM_INLINE void add_product(int64_t depth, const T* a, int64_t a_row, int64_t a_depth, const T* b,
                             int64_t b_row) {
    for (int64_t k = 0; k < depth; ++k, a += a_depth, b += b_row) {
      Vec<T> right[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) right[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 8
      for (int r = 0; r < kTileRows; ++r) {
        const T left = a[r * a_row];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) rows[r][v] += left * right[v];
      }
    }
  }

  /// rows[r, :] = f(rows[r, :], r, column), called for every vector; column counts from the tile's first.
  template <class F>
  DM_INLINE void each(F&& f) {
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) rows[r][v] = f(rows[r][v], r, v * kLanes<T>);
  }

  DM_INLINE void store_to(T* c, int64_t c_row) {
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(c + r * c_row + v * kLanes<T>, rows[r][v]);
  }

  /// Stores the part that lies in `row_count` rows and `column_count` columns.
  DM_INLINE void store_part_to(T* c, int64_t c_row, int64_t row_count, int64_t column_count) {
    if (row_count >= kTileRows && column_count >= V * kLanes<T>) return store_to(c, c_row);
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int64_t left = column_count - v * kLanes<T>;
        if (r < row_count && left > 0)
          store_part(c + r * c_row + v * kLanes<T>, rows[r][v], left < kLanes<T> ? left : kLanes<T>);
      }
  }
};

/// Calls f(tile, row, column) for zeroed tiles that cover [0, rows) x [first_column(row), columns); columns,
/// first_column and the matrix's padded rows are multiples of kBlock.
template <class T, class First, class F>
DM_INLINE void for_tiles(int64_t rows, int64_t columns, First&& first_column, F&& f) {
  for (int64_t r = 0; r < rows; r += kTileRows) {
    int64_t c = first_column(r);
    for (; c + 2 * kLanes<T> <= columns; c += 2 * kLanes<T>) {
      Tile<T, 2> tile;
      f(tile, r, c);
    }
    if (c < columns) {
      Tile<T, 1> tile;
      f(tile, r, c);
    }
  }
}
template <class T, class F>
DM_INLINE void for_tiles(int64_t rows, int64_t columns, F&& f) {
  for_tiles<T>(
      rows, columns, [](int64_t) { return int64_t{0}; }, f);
}

}  // namespace dm::kernels::DM_SIMD_LEVEL
