#include "kernels/cross_entropy/cross_entropy.h"

#include <fmt/core.h>

#include <cmath>

#include "kernels/cross_entropy/cross_entropy_reference.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

const std::vector<std::string> kNames = {"h", "weight", "targets", "mask"};
constexpr double kExact = 1e-13;  // both float64
constexpr double kSingle = 1e-6;  // float32 GEMMs of a few hundred terms

/// h, weight, targets, mask; every seventh target is masked and out of range, as a reader must be free to
/// leave it.
Tensors inputs(int64_t tokens, int64_t width, int64_t vocabulary, at::ScalarType dtype = at::kDouble) {
  at::Tensor targets = (at::arange(tokens, at::kLong) * 7919) % vocabulary,
             mask = at::ones({tokens}, at::kByte);
  for (int64_t t = 3; t < tokens; t += 7) {
    targets[t] = -1;
    mask[t] = 0;
  }
  return {normal("h", {tokens, width}, dtype), normal("weight", {vocabulary, width}, dtype), targets, mask};
}

Tensors loss(const Tensors& t) {
  const CrossEntropy out = linear_cross_entropy(t[0], t[1], t[2], t[3]);
  return {out.sum, out.per_target};
}
Tensors reference(const Tensors& t) {
  const CrossEntropy out = linear_cross_entropy_reference(t[0], t[1], t[2], t[3]);
  return {out.sum, out.per_target};
}

TEST(CrossEntropy, EqualsItsReference) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    const Poison poison;
    for (const auto& [tokens, vocabulary] :
         std::vector<std::array<int64_t, 2>>{{1, 1}, {2, 3}, {5, 17}, {128, 64}, {300, 300}, {1030, 5}}) {
      SCOPED_TRACE(fmt::format("{} T {} V {}", name(level), tokens, vocabulary));
      const double blur =
          vocabulary == 1 ? 1e-6 : 0;  // the loss over one word is zero: what is left is rounding itself
      expect_close(loss, reference, inputs(tokens, 12, vocabulary), kExact + blur, kNames);
      expect_close(loss, reference, inputs(tokens, 12, vocabulary, at::kFloat), kSingle + blur, kNames);
    }
  }
}

TEST(CrossEntropy, SeveralBlocksOfRows) {
  const int64_t vocabulary = 40000;
  ASSERT_EQ(cross_entropy_block_rows(vocabulary, 8), 128);
  EXPECT_EQ(cross_entropy_block_rows(256, 4), 1024);
  EXPECT_EQ(cross_entropy_block_rows(8192, 4), 512);
  expect_close(loss, reference, inputs(130, 4, vocabulary), 1e-11, kNames);  // float64 sums of 40,000 terms
}

TEST(CrossEntropy, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(loss, inputs(9, 5, 11), kNames);
}

TEST(CrossEntropy, LargeLogitsNeitherOverflowNorVanish) {
  for (const double size : {100.0, 1e4}) {
    Tensors in = inputs(20, 8, 30, at::kFloat);
    in[0] = in[0] * size;
    expect_close(loss, reference, in, kSingle, kNames);
  }
}

TEST(CrossEntropy, GradientScalesWithTheLoss) {
  const Tensors in = inputs(20, 8, 30);
  const Function tripled = [](const Tensors& t) -> Tensors { return {3 * loss(t)[0]}; };
  const Function tripled_reference = [](const Tensors& t) -> Tensors { return {3 * reference(t)[0]}; };
  expect_close(tripled, tripled_reference, in, kExact, kNames);
}

TEST(CrossEntropy, MaskedRowsHaveNoLossAndNoGradient) {
  const Tensors in = inputs(20, 8, 30);
  const Evaluation got = evaluate(loss, in);
  for (int64_t t = 3; t < 20; t += 7) {
    EXPECT_EQ(got.outputs[1][t].item<double>(), 0);
    EXPECT_EQ(got.gradients[0][t].abs().max().item<double>(), 0);
  }
  Tensors none = in;
  none[3] = at::zeros_like(in[3]);
  const Evaluation nothing = evaluate(loss, none);
  EXPECT_EQ(nothing.outputs[0].item<double>(), 0);
  EXPECT_EQ(nothing.gradients[1].abs().max().item<double>(), 0);
}

TEST(CrossEntropy, ANotANumberIsSeen) {
  Tensors in = inputs(20, 8, 30, at::kFloat);
  in[0][5][2] = std::nan("");
  const Tensors got = loss(in);
  EXPECT_TRUE(std::isnan(got[0].item<double>()));
  EXPECT_TRUE(std::isnan(got[1][5].item<double>()));
  EXPECT_TRUE(std::isfinite(got[1][4].item<double>()));
}

TEST(CrossEntropy, WorksWithoutAutograd) {
  const at::NoGradGuard no_grad;
  const Tensors in = inputs(20, 8, 30);
  EXPECT_LE(relative_error(loss(in)[0], reference(in)[0]), kExact);
}

TEST(CrossEntropy, TakesStridedInputs) {
  const Tensors in = inputs(40, 8, 30);
  Tensors strided = in;
  for (const size_t i : {0, 1}) strided[i] = in[i].t().contiguous().t();
  strided[2] = at::stack({in[2], in[2]}, 1).select(1, 0);
  strided[3] = at::stack({in[3], in[3]}, 1).select(1, 1);
  expect_close(loss, reference, strided, kExact, kNames);
}

TEST(CrossEntropy, RepeatsBitForBitOnAnyNumberOfThreads) {
  expect_repeatable(loss, inputs(300, 64, 1000, at::kFloat));
}

TEST(CrossEntropy, RefusesWhatDoesNotFit) {
  const Tensors in = inputs(20, 8, 30);
  const auto with = [&](size_t i, const at::Tensor& t) {
    Tensors wrong = in;
    wrong[i] = t;
    return refusal([&] { loss(wrong); });
  };
  EXPECT_EQ(with(1, in[1].slice(1, 1)),
            "linear_cross_entropy: weight is float64 [30, 7], expected float64 [*, 8]");
  EXPECT_EQ(with(2, in[2].to(at::kInt)), "linear_cross_entropy: targets is int32 [20], expected int64 [20]");
  EXPECT_EQ(with(3, in[3].slice(0, 1)), "linear_cross_entropy: mask is uint8 [19], expected uint8 [20]");
  EXPECT_EQ(with(2, in[2] + 30), "linear_cross_entropy: target 30 at 0 is not in [0, 30)");
}

}  // namespace
}  // namespace dm::kernels::test
