#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <cmath>

#include "kernels/cross_entropy/cross_entropy.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr Bars kBf16{4e-3, 6e-3}, kFp32{1e-5, 1e-5};

const Bars& bars(at::ScalarType dtype) { return dtype == at::kBFloat16 ? kBf16 : kFp32; }

Tensors loss(const Tensors& t) {
  const CrossEntropy out = linear_cross_entropy(t[0], t[1], t[2], t[3]);
  return {out.sum, out.per_target};
}

/// Logits of about the size that a model has; every seventh target is masked and out of range.
GpuInputs inputs(int64_t tokens, int64_t width, int64_t vocabulary, at::ScalarType dtype) {
  at::Tensor targets = (at::arange(tokens, at::kLong) * 7919) % vocabulary,
             mask = at::ones({tokens}, at::kByte);
  for (int64_t t = 3; t < tokens; t += 7) {
    targets[t] = -1;
    mask[t] = 0;
  }
  const double scale = 1.5 / std::sqrt(static_cast<double>(width));
  return {{"h", normal("h", {tokens, width}), dtype},
          {"weight", normal("weight", {vocabulary, width}) * scale, dtype},
          {"targets", targets, at::kLong},
          {"mask", mask, at::kByte}};
}

Tensors on_gpu(const GpuInputs& inputs) {
  Tensors tensors;
  for (const GpuInput& in : inputs)
    tensors.push_back(in.value.is_floating_point() ? in.value.to(at::kCUDA, in.dtype)
                                                   : in.value.to(at::kCUDA));
  return tensors;
}

void compare(int64_t tokens, int64_t width, int64_t vocabulary, at::ScalarType dtype) {
  SCOPED_TRACE(fmt::format("{} T {} D {} V {}", short_name(dtype), tokens, width, vocabulary));
  expect_gpu_close(fmt::format("cross-entropy {}", short_name(dtype)), loss,
                   inputs(tokens, width, vocabulary, dtype), bars(dtype), {true, false});
}

TEST(CrossEntropyCuda, EqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const auto& [tokens, width, vocabulary] : std::vector<std::array<int64_t, 3>>{{1, 32, 2},
                                                                                       {3, 16, 17},
                                                                                       {63, 32, 64},
                                                                                       {65, 48, 300},
                                                                                       {127, 32, 301},
                                                                                       {129, 64, 4099},
                                                                                       {2047, 32, 300}})
      compare(tokens, width, vocabulary, dtype);
}

TEST(CrossEntropyCuda, SeveralBlocksOfRows) {
  compare(2600, 32, 50280, at::kBFloat16);  // blocks of 2,560 and 1,280 rows
  compare(1300, 32, 50280, at::kFloat);
}

TEST(CrossEntropyCuda, ThePartsOfAWeightGetTheirGradientsInTheForwardPass) {
  const int64_t tokens = 130, width = 64, vocabulary = 300;
  const GpuInputs in = inputs(tokens, width, vocabulary, at::kBFloat16);
  const Tensors t = on_gpu(in);
  const at::Tensor top = at::ones({100, width}, t[0].options().dtype(at::kFloat)),
                   left = at::zeros({200, 24}, top.options()), right = at::zeros({200, 40}, top.options());
  const at::Tensor h = t[0].detach().requires_grad_();
  const Weight weight(t[1], {{top, 0, 0}, {left, 100, 0}, {right, 100, 24}});
  const CrossEntropy out = linear_cross_entropy(h, weight, t[2], t[3]);
  const at::Tensor dh = torch::autograd::grad({out.sum}, {h})[0];

  const at::Tensor exact_h = rounded(in[0].value, at::kBFloat16).requires_grad_(),
                   exact_weight = rounded(in[1].value, at::kBFloat16).requires_grad_();
  const CrossEntropy exact = linear_cross_entropy(exact_h, exact_weight, in[2].value, in[3].value);
  const auto expected = torch::autograd::grad({exact.sum}, {exact_h, exact_weight});
  expect_gpu_close("cross-entropy of parts, sum", out.sum, exact.sum, kBf16.outputs);
  expect_gpu_close("cross-entropy of parts, dh", dh, expected[0], kBf16.gradients);
  const at::Tensor together = at::cat({top - 1, at::cat({left, right}, 1)});
  expect_gpu_close("cross-entropy of parts, dweight", together, expected[1], kBf16.gradients);
}

TEST(CrossEntropyCuda, MaskedRowsHaveNoLossAndNoGradient) {
  Tensors t = on_gpu(inputs(20, 32, 30, at::kBFloat16));
  const at::Tensor h = t[0].detach().requires_grad_();
  const CrossEntropy out = linear_cross_entropy(h, t[1], t[2], t[3]);
  const at::Tensor dh = torch::autograd::grad({out.sum}, {h})[0];
  for (int64_t row = 3; row < 20; row += 7) {
    EXPECT_EQ(out.per_target[row].item<float>(), 0);
    EXPECT_EQ(dh[row].abs().max().item<float>(), 0);
  }
  const CrossEntropy nothing = linear_cross_entropy(h, t[1], t[2], at::zeros_like(t[3]));
  EXPECT_EQ(nothing.sum.item<float>(), 0);
}

TEST(CrossEntropyCuda, LargeLogitsNeitherOverflowNorVanish) {
  GpuInputs in = inputs(20, 8, 30, at::kFloat);
  in[0].value = in[0].value * 1e4;
  expect_gpu_close("cross-entropy fp32, large logits", loss, in, kFp32, {true, false});
}

TEST(CrossEntropyCuda, AnUnknownTargetAndANotANumberAreSeen) {
  for (const int64_t target : {-1, 30, 1 << 20}) {
    Tensors t = on_gpu(inputs(20, 32, 30, at::kBFloat16));
    t[2][5] = target;
    const Tensors got = loss(t);
    EXPECT_TRUE(std::isnan(got[0].item<float>())) << target;
    EXPECT_TRUE(std::isnan(got[1][5].item<float>())) << target;
    EXPECT_TRUE(std::isfinite(got[1][4].item<float>())) << target;
  }
  Tensors t = on_gpu(inputs(20, 32, 30, at::kFloat));
  t[0][5][2] = std::nan("");
  EXPECT_TRUE(std::isnan(loss(t)[0].item<float>()));
}

TEST(CrossEntropyCuda, TakesStridedInputs) {
  const Tensors t = on_gpu(inputs(40, 16, 30, at::kFloat));
  const Tensors strided{t[0].t().contiguous().t(), at::cat({t[1], t[1]}, 1).slice(1, 16),
                        at::stack({t[2], t[2]}, 1).select(1, 0), at::stack({t[3], t[3]}, 1).select(1, 1)};
  EXPECT_LE(relative_error(loss(strided)[1].cpu(), loss(t)[1].cpu()), 1e-6);
}

}  // namespace
}  // namespace dm::kernels::test
