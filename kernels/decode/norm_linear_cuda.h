#pragma once
// norm_linear.h on the GPU.

#include "kernels/decode/norm_linear.h"

namespace dm::kernels {

/// Nothing, and nothing queued, for shapes and dtypes that a chain does not serve.
std::optional<NormedProduct> norm_linear_cuda(const PendingNorm& pending, const Weight& matrix,
                                              DecodeChain& chain);

}  // namespace dm::kernels
