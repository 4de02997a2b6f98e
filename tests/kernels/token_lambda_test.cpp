// λ of every token: the split of a projection's columns and the factors of both branches' sections.

#include "tests/kernels/token_lambda.h"

namespace dm::kernels::test {
namespace {

TEST(TokenLambda, EqualsItsFormula) {
  for (const bool first : {true, false})
    for (const int64_t count : {1, 4}) {
      const Function formula = [=](const Tensors& t) -> Tensors {
        const at::Tensor lambda = 1 / (1 + (-(t[0].slice(-1, 6) + t[1])).exp());
        return {t[0].slice(-1, 0, 6), first ? at::cat({at::ones_like(lambda), -lambda}, -1) : -lambda};
      };
      const Tensors in = {normal("columns", {2, 5, 6 + count}), normal("bias", {count})};
      expect_close(split_lambda(6, first), formula, in, 1e-14, {"columns", "bias"});
      expect_gradients_match_differences(split_lambda(6, first), in, {"columns", "bias"});
    }
}

TEST(TokenLambda, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal([] {
              token_lambda(normal("columns", {2, 6}), 6, normal("bias", {1}), true);
            }),
            "token_lambda: columns are float64 [2, 6], expected more than 6 of the branches");
  EXPECT_EQ(refusal([] {
              token_lambda(normal("columns", {2, 7}), 6, normal("bias", {2}), true);
            }),
            "token_lambda: bias is float64 [2], expected float64 [1]");
}

}  // namespace
}  // namespace dm::kernels::test
