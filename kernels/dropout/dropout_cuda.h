#pragma once

#include "kernels/dropout/dropout.h"

namespace dm::kernels {

/// What dropout() makes of x, contiguous and on a GPU, its arguments checked; without autograd.
at::Tensor dropout_cuda(const at::Tensor& x, double p, const CounterRng& rng, const TokenPlaces& places);

}  // namespace dm::kernels
