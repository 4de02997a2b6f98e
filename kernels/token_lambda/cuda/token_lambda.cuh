#pragma once
// σ of a projection's last columns as factors of sections, and back (kernels/token_lambda/token_lambda.h).

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

struct TokenLambdaShape {
  int64_t tokens, count;  // count: λs of a token
  bool first;
  Element element;  // of the columns and their gradient

  int64_t sections() const { return first ? 2 * count : count; }
};

/// columns [tokens, count], rows `stride` apart; bias [count]; sections [tokens, sections()].
cudaError_t token_lambda(const TokenLambdaShape& shape, const void* columns, int64_t stride,
                         const float* bias, float* sections, cudaStream_t stream);

/// Floats of `parts`, below.
int64_t token_lambda_parts(const TokenLambdaShape& shape);
/// From sections and their gradient: dcolumns [tokens, count], rows `stride` apart, and dbias [count].
cudaError_t token_lambda_backward(const TokenLambdaShape& shape, const float* sections,
                                  const float* dsections, void* dcolumns, int64_t stride, float* dbias,
                                  float* parts, cudaStream_t stream);

}  // namespace dm::kernels::cuda
