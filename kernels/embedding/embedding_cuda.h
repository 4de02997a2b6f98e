#pragma once

#include "kernels/embedding/embedding.h"

namespace dm::kernels {

/// embedding() on a GPU, its arguments checked.
at::Tensor embedding_cuda(const at::Tensor& ids, const Weight& weight);

}  // namespace dm::kernels
