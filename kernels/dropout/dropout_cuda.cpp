#include "kernels/dropout/dropout_cuda.h"

#include <ATen/ATen.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/dropout/cuda/dropout_cuda.cuh"

namespace dm::kernels {

at::Tensor dropout_cuda(const at::Tensor& x, double p, const CounterRng& rng, const TokenPlaces& places) {
  at::Tensor y = at::empty_like(x);
  check_launch(cuda::dropout({.tokens = x.numel() / x.size(-1),
                              .width = x.size(-1),
                              .element = element_of(x),
                              .x = x.const_data_ptr(),
                              .y = y.mutable_data_ptr(),
                              .samples = places.samples.const_data_ptr<int64_t>(),
                              .length = places.length,
                              .position = places.position,
                              .first = places.first,
                              .key = {rng.key()[0], rng.key()[1]},
                              .threshold = dropout_threshold(p),
                              .scale = static_cast<float>(1 / (1 - p))},
                             current_stream()),
               "dropout");
  return y;
}

}  // namespace dm::kernels
