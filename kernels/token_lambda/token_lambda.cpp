#include "kernels/token_lambda/token_lambda.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/token_lambda/token_lambda_cuda.h"

namespace dm::kernels {

TokenLambda token_lambda(const at::Tensor& columns, int64_t width, const at::Tensor& bias, bool first) {
  DM_CHECK_FLOATING("token_lambda", columns);
  DM_CHECK(columns.dim() >= 1 && width >= 1 && columns.size(-1) > width,
           "token_lambda: columns are {}, expected more than {} of the branches", describe(columns), width);
  DM_CHECK_SHAPE("token_lambda", bias, columns.is_cuda() ? at::kFloat : columns.scalar_type(),
                 columns.size(-1) - width);
  if (columns.is_cuda()) return token_lambda_cuda(columns, width, bias, first);
  const at::Tensor second = -at::sigmoid(columns.narrow(-1, width, bias.size(0)) + bias);
  return {columns.narrow(-1, 0, width), first ? at::cat({at::ones_like(second), second}, -1) : second};
}

}  // namespace dm::kernels
