#pragma once
// Dropout whose mask is a function of which element it is, never of who computes it: the same on every
// layout, for any cut of rows into micro-steps, and in a backward pass that makes it again.
//
//   y[t, c] = keep(t, c) ? x[t, c] / (1 - p) : 0
//   keep(t, c): word c % 4 of rng.draw(position << 32 | c / 4, sample) is at least p · 2^32

#include <ATen/core/Tensor.h>

#include "core/rng.h"

namespace dm::kernels {

/// Which tokens of a run x holds: those from `first` on of B rows' L tokens each, row by row.
struct TokenPlaces {
  at::Tensor samples;    // [B] int64 on x's device: the rows' numbers in the whole run
  int64_t length = 0;    // L: tokens of each row that are here
  int64_t position = 0;  // of the first of them in the whole row
  int64_t first = 0;
};

/// x [.., D] of as many tokens as all dims but the last have -> y, of x's shape and dtype; 0 <= p < 1.
/// Differentiable; nothing of x's size is saved. On the CPU float32 or float64, on a GPU float32 or bfloat16,
/// the mask the same on both.
at::Tensor dropout(const at::Tensor& x, double p, const CounterRng& rng, const TokenPlaces& places);

/// What a draw's word must reach for its element to be kept.
uint32_t dropout_threshold(double p);

}  // namespace dm::kernels
