#pragma once

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// ssd() without documents or states, as the chunked listing of arXiv 2405.21060 (listing 1) is written
/// through LibTorch: batched matrix products, C Bᵀ once per group, differentiable through autograd. `chunk`
/// divides L. The benchmark's peer.
at::Tensor ssd_chunked(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                       const at::Tensor& c, const at::Tensor& d, int64_t chunk);

}  // namespace dm::kernels
