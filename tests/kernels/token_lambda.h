#pragma once
// The operation of token_lambda.h as the tests on both devices call it.

#include "kernels/token_lambda/token_lambda.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {

/// Of columns and bias: the branches' columns and the sections.
inline Function split_lambda(int64_t width, bool first) {
  return [=](const Tensors& t) -> Tensors {
    const TokenLambda result = token_lambda(t[0], width, t[1], first);
    return {result.branches, result.sections};
  };
}

}  // namespace dm::kernels::test
