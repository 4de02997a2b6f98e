// Linear and embedding: LibTorch's own, so what is tested is our promise about them.

#include "kernels/linear/linear.h"

#include "kernels/embedding/embedding.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

Tensors project(const Tensors& t) {
  return {kernels::linear(t[0], t[1], t.size() > 2 ? std::optional(t[2]) : std::nullopt)};
}

TEST(Linear, EqualsItsFormula) {
  const Function formula = [](const Tensors& t) -> Tensors {
    return {(t[0].unsqueeze(-2) * t[1]).sum(-1) + t[2]};
  };
  for (const int64_t width : {1, 7, 64}) {
    const Tensors in = {normal("x", {3, 5, width}), normal("weight", {9, width}), normal("bias", {9})};
    expect_close(project, formula, in, 1e-14, {"x", "weight", "bias"});  // float64, up to 64 terms
  }
  expect_gradients_match_differences(project, {normal("x", {4, 6}), normal("weight", {3, 6})},
                                     {"x", "weight"});
}

TEST(Linear, RepeatsBitForBit) {
  const Tensors in = {normal("x", {2, 129, 192}, at::kFloat), normal("weight", {321, 192}, at::kFloat)};
  const Evaluation first = evaluate(project, in);
  for (int i = 0; i < 20; ++i)
    expect_same_bits(first, evaluate(project, {in[0].clone(), in[1].clone()}), "call");
}

TEST(Linear, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal([] {
              kernels::linear(normal("x", {2, 6}), normal("w", {3, 5}));
            }),
            "linear: weight.value is float64 [3, 5], expected float64 [*, 6]");
  EXPECT_EQ(refusal([] {
              kernels::linear(normal("x", {2, 6}), normal("w", {3, 6}), normal("b", {4}));
            }),
            "linear: bias is float64 [4], expected float64 [3]");
}

TEST(Embedding, PicksRowsAndAddsTheirGradients) {
  const at::Tensor ids = at::tensor({4, 0, 4, 2, 4, 0}, at::kLong).view({2, 3});
  const Function look_up = [&](const Tensors& t) -> Tensors { return {kernels::embedding(ids, t[0])}; };
  const Function formula = [&](const Tensors& t) -> Tensors {
    return {at::matmul(at::one_hot(ids, 5).to(at::kDouble), t[0])};
  };
  expect_close(look_up, formula, {normal("weight", {5, 7})}, 1e-15, {"weight"});
  expect_repeatable(
      [&](const Tensors& t) -> Tensors {
        return {kernels::embedding(at::arange(3000, at::kLong) % 50, t[0])};
      },
      {normal("weight", {50, 33}, at::kFloat)});
  EXPECT_EQ(kernels::embedding(ids.to(at::kInt), normal("weight", {5, 7})).sizes(),
            (at::IntArrayRef{2, 3, 7}));
}

TEST(Embedding, RefusesIdsOutsideTheTable) {
  const at::Tensor weight = normal("weight", {5, 7});
  EXPECT_EQ(refusal([&] {
              kernels::embedding(at::tensor({0, 5}, at::kLong), weight);
            }),
            "embedding: ids are in [0, 5], but weight has 5 rows");
  EXPECT_EQ(refusal([&] {
              kernels::embedding(at::tensor({-1, 2}, at::kLong), weight);
            }),
            "embedding: ids are in [-1, 2], but weight has 5 rows");
  EXPECT_EQ(refusal([&] { kernels::embedding(at::ones({2}, at::kFloat), weight); }),
            "embedding: ids are float32 [2], expected int64 or int32");
}

}  // namespace
}  // namespace dm::kernels::test
