#pragma once
// token_lambda.h on the GPU.

#include "kernels/token_lambda/token_lambda.h"

namespace dm::kernels {

TokenLambda token_lambda_cuda(const at::Tensor& columns, int64_t width, const at::Tensor& bias, bool first);

}  // namespace dm::kernels
