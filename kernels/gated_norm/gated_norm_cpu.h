#pragma once
// The gated norm on the CPU, on raw memory: gated_norm.h says what is computed. A task is a block of
// kGatedRows tokens; its sums over tokens are its share of dweight.

#include <cstdint>

#include "kernels/simd/dispatch.h"

namespace dm::kernels {

inline constexpr int64_t kGatedRows = 32;

/// A stretch of E within one span and one section.
struct GatedSegment {
  int64_t begin, end, span, section;
};

template <class T>
struct TokenRows {
  T* data;  // [B, L, E], last dim contiguous
  int64_t row_stride, token_stride;
};

template <class T>
struct GatedNormInput {
  int64_t batch, length, width, spans, sections;  // B, L, E, spans, S
  TokenRows<const T> y, z;
  const T* weight;  // [E]
  const T* scale;   // [B, L, S] through strides that may be 0, or nullptr: 1
  int64_t scale_row, scale_token, scale_section;
  double eps;
  const GatedSegment* segments;  // in order, covering [0, E)
  int64_t segment_count;
  int64_t tokens() const { return batch * length; }
  int64_t blocks() const { return (tokens() + kGatedRows - 1) / kGatedRows; }
};

template <class T>
struct GatedNormGradient {
  TokenRows<const T> dout;
  const T* root;   // [B L, spans], as the forward pass left it
  T *dy, *dz;      // [B, L, E]
  double* dscale;  // [B L, S] or nullptr
  double* shares;  // [blocks, E]
};

// clang-format off
DM_SIMD_DECLARE(
  template <class T>
  void gated_norm_forward_task(const GatedNormInput<T>& in, T* out, T* root, int64_t block);

  /// scratch: 3 E + spans elements.
  template <class T>
  void gated_norm_backward_task(const GatedNormInput<T>& in, const GatedNormGradient<T>& grad, int64_t block,
                                T* scratch);
)
// clang-format on

}  // namespace dm::kernels
