#pragma once
// norm_linear.h on the GPU.

#include "kernels/decode/norm_linear.h"

namespace dm::kernels {

/// Nothing for shapes and dtypes that the one launch does not serve.
std::optional<NormedProduct> norm_linear_cuda(const PendingNorm& pending, const Weight& matrix);

}  // namespace dm::kernels
