#include "kernels/conv/causal_conv.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "kernels/conv/causal_conv_reference.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

const std::vector<std::string> kNames = {"x", "weight", "bias", "initial", "seq_idx"};

Tensors inputs(int64_t batch, int64_t length, int64_t channels, int64_t width,
               at::ScalarType dtype = at::kDouble, const at::Tensor& seq_idx = {}) {
  return {normal("x", {batch, length, channels}, dtype), normal("weight", {channels, width}, dtype),
          normal("bias", {channels}, dtype), normal("initial", {batch, width - 1, channels}, dtype),
          seq_idx.defined() ? seq_idx : at::zeros({batch, length}, at::kInt)};
}

std::optional<at::Tensor> given(const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; }
Tensors conv(const Tensors& t) { return {causal_conv_silu(t[0], t[1], t[2], t[4], given(t[3]))}; }
Tensors reference(const Tensors& t) {
  return {causal_conv_silu_reference(t[0], t[1], t[2], t[4], given(t[3]))};
}

constexpr double kExact = 1e-13;  // both float64, sums of a few terms, or of tokens in another order
constexpr double kSingle = 1e-6;  // float32: 6e-8 a rounding, sums over tokens in blocks of 64

TEST(CausalConv, EqualsItsReference) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    const Poison poison;
    for (const auto& [length, channels, width] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                                     {1, 5, 4},
                                                                                     {2, 16, 4},
                                                                                     {3, 20, 4},
                                                                                     {4, 33, 4},
                                                                                     {5, 7, 2},
                                                                                     {64, 8, 4},
                                                                                     {65, 9, 4},
                                                                                     {66, 300, 3},
                                                                                     {131, 12, 20}}) {
      SCOPED_TRACE(fmt::format("{} L {} C {} W {}", name(level), length, channels, width));
      expect_close(conv, reference, inputs(2, length, channels, width), kExact, kNames);
      expect_close(conv, reference, inputs(2, length, channels, width, at::kFloat), kSingle, kNames);
      Tensors without =
          inputs(2, length, channels, width, at::kDouble, documents({{1, 1, 2, 30}, {40, 40}}, length));
      without[3] = at::Tensor();
      expect_close(conv, reference, without, kExact, kNames);
    }
  }
}

TEST(CausalConv, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(conv, inputs(2, 9, 5, 4, at::kDouble, documents({{1, 3}, {2, 5}}, 9)),
                                     kNames);
}

TEST(CausalConv, LargeValuesSaturate) {
  Tensors in = inputs(1, 8, 4, 4, at::kFloat);
  in[0] = in[0] * 1e4;  // SiLU of ±1e4: exp of neither sign may overflow into NaN
  expect_close(conv, reference, in, kSingle, kNames);
}

TEST(CausalConv, DocumentsDoNotSeeEachOther) {
  const std::vector<int64_t> lengths = {2, 1, 62, 35};
  const Tensors in = inputs(1, 100, 20, 4, at::kFloat, documents({lengths}, 100));
  const Evaluation before = evaluate(conv, in);
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    for (const double value : {1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
      Tensors changed = in;
      changed[0] = in[0].clone();
      changed[0].slice(1, begin, begin + length).add_(value);
      const Evaluation after = evaluate(conv, changed);
      const auto outside = [&](const at::Tensor& t) {
        return at::cat({t.slice(1, 0, begin), t.slice(1, begin + length)}, 1);
      };
      EXPECT_TRUE(same_bits(outside(before.outputs[0]), outside(after.outputs[0])));
      EXPECT_TRUE(same_bits(outside(before.gradients[0]), outside(after.gradients[0])));
      EXPECT_TRUE(begin == 0 || same_bits(before.gradients[3], after.gradients[3]));
      EXPECT_FALSE(same_bits(before.outputs[0], after.outputs[0]));
    }
    begin += length;
  }
}

TEST(CausalConv, SplitRowsCarryTheirTokens) {
  const Tensors in = inputs(2, 70, 12, 4, at::kDouble, documents({{30}, {66}}, 70));
  for (const int64_t at : {3, 29, 64, 67}) {
    const Function split = [at](const Tensors& t) -> Tensors {
      const at::Tensor left = causal_conv_silu(t[0].slice(1, 0, at), t[1], t[2], t[4].slice(1, 0, at), t[3]);
      return {at::cat({left, causal_conv_silu(t[0].slice(1, at), t[1], t[2], t[4].slice(1, at),
                                              t[0].slice(1, at - 3, at))},
                      1)};
    };
    // Cuts at 29 and 67 have a document border within reach of the window, which `initial` cannot say:
    // compare where it is not.
    if (at == 3 || at == 64) {
      Tensors one_document = in;
      one_document[4] = at::zeros_like(in[4]);
      expect_close(split, reference, one_document, kExact, kNames);
    } else {
      const Tensors got = split(in), whole = reference(in);
      const int64_t row = at == 29 ? 1 : 0;  // the row whose border lies elsewhere
      EXPECT_LE(relative_error(got[0][row], whole[0][row]), kExact);
    }
  }
}

TEST(CausalConv, TakesStridedInputs) {
  const Tensors in = inputs(2, 70, 12, 4, at::kFloat);
  Tensors strided = in;
  at::Tensor wide = at::full({2, 70, 30}, std::nan(""), at::kFloat);
  wide.narrow(2, 7, 12).copy_(in[0]);
  strided[0] = wide.narrow(2, 7, 12);
  expect_same_bits(evaluate(conv, in), evaluate(conv, strided), "narrowed");
  for (const size_t i : {0, 1, 3, 4}) strided[i] = in[i].transpose(0, -1).contiguous().transpose(0, -1);
  expect_same_bits(evaluate(conv, in), evaluate(conv, strided), "transposed");
}

TEST(CausalConv, RepeatsBitForBitOnAnyNumberOfThreads) {
  expect_repeatable(conv, inputs(2, 150, 300, 4, at::kFloat, documents({{20, 90}, {64}}, 150)));
}

TEST(CausalConv, StepsEqualTheRow) {
  const Tensors in = inputs(2, 9, 12, 4);
  const at::Tensor whole = reference(in)[0];
  at::Tensor window = in[3].clone();
  for (int64_t t = 0; t < 9; ++t)
    EXPECT_LE(relative_error(causal_conv_step(in[0].select(1, t), in[1], in[2], window), whole.select(1, t)),
              kExact)
        << t;
  EXPECT_TRUE(same_bits(window, in[0].slice(1, 6)));
}

TEST(CausalConv, RefusesWhatDoesNotFit) {
  const Tensors in = inputs(2, 9, 12, 4);
  const auto with = [&](size_t i, const at::Tensor& t) {
    Tensors wrong = in;
    wrong[i] = t;
    return refusal([&] { conv(wrong); });
  };
  EXPECT_EQ(with(1, in[1].slice(0, 1)),
            "causal_conv_silu: weight is float64 [11, 4], expected float64 [12, *]");
  EXPECT_EQ(with(2, in[2].to(at::kFloat)), "causal_conv_silu: bias is float32 [12], expected float64 [12]");
  EXPECT_EQ(with(3, in[3].slice(1, 1)),
            "causal_conv_silu: initial is float64 [2, 2, 12], expected float64 [2, 3, 12]");
  EXPECT_EQ(with(4, in[4].slice(1, 1)), "causal_conv_silu: seq_idx is int32 [2, 8], expected int32 [2, 9]");
}

}  // namespace
}  // namespace dm::kernels::test
