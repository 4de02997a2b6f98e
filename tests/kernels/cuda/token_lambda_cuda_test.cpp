#include "tests/kernels/token_lambda.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

const Bars& bars(at::ScalarType dtype) {
  static const Bars bf16{4e-3, 4e-3}, fp32{1e-6, 1e-5};  // of bf16 the gradient of the columns is rounded
  return dtype == at::kBFloat16 ? bf16 : fp32;
}

TEST(TokenLambdaCuda, EqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const bool first : {true, false})
      for (const int64_t count : {1, 3, 32, 48, 129, 300})
        for (const int64_t length : {1, 3, 63, 2049}) {
          SCOPED_TRACE(fmt::format("{} n {} L {}", short_name(dtype), count, length));
          expect_gpu_close(fmt::format("token_lambda {}", short_name(dtype)), split_lambda(40, first),
                           {{"columns", normal("columns", {2, length, 40 + count}), dtype},
                            {"bias", normal("bias", {count}), at::kFloat}},
                           bars(dtype));
        }
}

/// Where the gradient of the branches' columns has room behind each row, it is not copied.
TEST(TokenLambdaCuda, GradientsAreWrittenBehindTheBranches) {
  const auto options = at::dtype(at::kBFloat16).device(at::kCUDA);
  const at::Tensor columns = normal("columns", {2, 65, 40}).to(options).requires_grad_(),
                   bias = normal("bias", {8}).to(at::kCUDA, at::kFloat).requires_grad_(),
                   upstream = normal("upstream", {2, 65, 16}).to(at::kCUDA, at::kFloat);
  const auto gradient = [&](const at::Tensor& of_branches) {
    const TokenLambda split = token_lambda(columns, 32, bias, true);
    return torch::autograd::grad({split.branches, split.sections}, {columns}, {of_branches, upstream})[0];
  };
  const at::Tensor roomy = at::full({2, 65, 40}, NAN, options), narrow = roomy.narrow(-1, 0, 32);
  narrow.copy_(normal("of branches", {2, 65, 32}));
  const at::Tensor in_place = gradient(narrow), copied = gradient(narrow.clone());
  EXPECT_EQ(in_place.data_ptr(), roomy.data_ptr());
  EXPECT_NE(copied.data_ptr(), roomy.data_ptr());
  EXPECT_TRUE(same_bits(in_place.cpu(), copied.cpu()));
}

}  // namespace
}  // namespace dm::kernels::test
