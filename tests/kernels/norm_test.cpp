#include "kernels/norm/norm.h"

#include <fmt/core.h>

#include "kernels/gated_norm/gated_norm.h"
#include "kernels/gated_norm/gated_norm_reference.h"
#include "kernels/norm/norm_reference.h"
#include "kernels/norm/residual_norm.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

constexpr double kEps = 1e-5;
constexpr double kExact = 1e-13;  // both float64, sums over a few hundred terms in another order
constexpr double kSingle =
    3e-6;  // float32: 6e-8 a rounding; sums over all tokens whose terms cancel to a tenth

const std::vector<std::string> kNames = {"x", "weight", "bias"};

Tensors rms(const Tensors& t) { return {rms_norm(t[0], t[1], kEps)}; }
Tensors rms_truth(const Tensors& t) { return {rms_norm_reference(t[0], t[1], kEps)}; }
Tensors layer(const Tensors& t) { return {layer_norm(t[0], t[1], t[2], kEps)}; }
Tensors layer_truth(const Tensors& t) { return {layer_norm_reference(t[0], t[1], t[2], kEps)}; }

Tensors inputs(at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
  return {normal("x", shape, dtype) + 0.5, normal("weight", {shape.back()}, dtype),
          normal("bias", {shape.back()}, dtype)};
}
Tensors without_bias(Tensors in) {
  in.resize(2);
  return in;
}

TEST(Norm, EqualsItsReference) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    const Poison poison;
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{7}, {1, 4}, {3, 5, 16}, {2, 33, 20}, {70, 300}, {2, 2, 2, 513}}) {
      SCOPED_TRACE(fmt::format("{} D {}", name(level), shape.back()));
      for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, kExact}, {at::kFloat, kSingle}}) {
        const Tensors in = inputs(shape, dtype);
        expect_close(rms, rms_truth, without_bias(in), tolerance, kNames);
        expect_close(layer, layer_truth, in, tolerance, kNames);
      }
    }
  }
}

TEST(Norm, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(rms, without_bias(inputs({3, 5, 7})), kNames);
  expect_gradients_match_differences(layer, inputs({3, 5, 7}), kNames);
}

TEST(Norm, ZerosAndTinyValuesStayFinite) {
  Tensors in = inputs({4, 8});
  in[0] = at::zeros_like(in[0]);
  expect_close(rms, rms_truth, without_bias(in), kExact, kNames);
  in[0] = normal("tiny", {4, 8}) * 1e-20;
  expect_close(layer, layer_truth, in, kExact, kNames);
}

TEST(Norm, TakesStridedInputs) {
  const Tensors in = inputs({6, 10, 24}, at::kFloat);
  Tensors strided = in;
  strided[0] = in[0].transpose(0, 1).contiguous().transpose(0, 1);
  expect_same_bits(evaluate(layer, in), evaluate(layer, strided), "rows transposed");
  strided[0] = in[0].transpose(0, 2).contiguous().transpose(0, 2);
  expect_same_bits(evaluate(rms, without_bias(in)), evaluate(rms, without_bias(strided)),
                   "columns transposed");
}

TEST(Norm, RepeatsBitForBitOnAnyNumberOfThreads) {
  expect_repeatable(layer, inputs({300, 130}, at::kFloat));
  expect_repeatable(rms, without_bias(inputs({300, 130}, at::kFloat)));
}

TEST(Norm, RefusesWhatDoesNotFit) {
  const Tensors in = inputs({2, 8});
  EXPECT_EQ(refusal([&] { rms_norm(in[0], in[1].slice(0, 1), kEps); }),
            "rms_norm: weight is float64 [7], expected float64 [8]");
  EXPECT_EQ(refusal([&] { layer_norm(in[0], in[1], in[2].to(at::kFloat), kEps); }),
            "layer_norm: bias is float32 [8], expected float64 [8]");
  EXPECT_EQ(
      refusal([&] { rms_norm(in[0].to(at::kInt), in[1], kEps); }),
      "rms_norm: x is int32 [2, 8], expected float32 or float64 on the CPU, float32 or bfloat16 on a GPU");
}

// The pass between two blocks: h, y, subln (may be undefined), weight.

const std::vector<std::string> kResidualNames = {"h", "y", "subln", "weight"};

Tensors residual(const Tensors& t) {
  const ResidualNorm r =
      residual_norm(t[0], t[1], t[2].defined() ? std::optional(t[2]) : std::nullopt, t[3], kEps);
  return {r.h, r.u};
}
Tensors residual_truth(const Tensors& t) {
  const at::Tensor h = t[0] + (t[2].defined() ? rms_norm_reference(t[1], t[2], kEps) : t[1]);
  return {h, rms_norm_reference(h, t[3], kEps)};
}

TEST(ResidualNorm, EqualsItsReference) {
  for (const bool subln : {true, false})
    for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, kExact}, {at::kFloat, kSingle}}) {
      const Tensors in = {normal("h", {3, 5, 40}, dtype), normal("y", {3, 5, 40}, dtype),
                          subln ? normal("subln", {40}, dtype) : at::Tensor(), normal("weight", {40}, dtype)};
      expect_close(residual, residual_truth, in, tolerance, kResidualNames);
    }
}

TEST(ResidualNorm, RefusesWhatDoesNotFit) {
  const at::Tensor h = normal("h", {2, 8}), weight = normal("weight", {8});
  EXPECT_EQ(
      refusal([&] { residual_norm(h, h.to(at::kFloat), std::nullopt, weight, kEps); }),
      "residual_norm: h is float64 [2, 8] and y float32 [2, 8]: expected one shape [.., D] and one dtype, "
      "or on a GPU a float32 h");
}

// The gated norm: y, z, weight, scale (may be undefined).

const std::vector<std::string> kGatedNames = {"y", "z", "weight", "scale"};

Tensors gated_inputs(int64_t batch, int64_t length, int64_t width, at::IntArrayRef scale_shape,
                     at::ScalarType dtype = at::kDouble) {
  return {normal("y", {batch, length, width}, dtype), normal("z", {batch, length, width}, dtype),
          normal("weight", {width}, dtype),
          scale_shape.empty() ? at::Tensor() : normal("scale", scale_shape, dtype)};
}

Function gated(int64_t spans) {
  return [spans](const Tensors& t) -> Tensors {
    return {gated_norm(t[0], t[1], t[2], spans, t[3].defined() ? std::optional(t[3]) : std::nullopt, kEps)};
  };
}
Function gated_truth(int64_t spans) {
  return [spans](const Tensors& t) -> Tensors {
    return {gated_norm_reference(t[0], t[1], t[2], spans, t[3].defined() ? std::optional(t[3]) : std::nullopt,
                                 kEps)};
  };
}

TEST(GatedNorm, EqualsItsReference) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    const Poison poison;
    for (const int64_t spans : {1, 2, 3, 4})
      for (const std::vector<int64_t>& scale : std::vector<std::vector<int64_t>>{
               {}, {2}, {1}, {1, 1, 2}, {3, 1, 4}, {17, 6}, {3, 17, 2}, {3, 17, 12}, {1, 17, 24}, {24}}) {
        SCOPED_TRACE(fmt::format("{} spans {} scale of {} dims", name(level), spans, scale.size()));
        expect_close(gated(spans), gated_truth(spans), gated_inputs(3, 17, 24, scale), kExact, kGatedNames);
        expect_close(gated(spans), gated_truth(spans), gated_inputs(3, 17, 24, scale, at::kFloat), kSingle,
                     kGatedNames);
      }
    expect_close(gated(2), gated_truth(2), gated_inputs(1, 40, 1300, {40, 2}), kExact, kGatedNames);
    // A span of one element is its own root mean square: its gradient is what 1 - n² leaves of cancelled
    // numbers.
    expect_close(gated(1), gated_truth(1), gated_inputs(1, 1, 1, {1}), 1e-10, kGatedNames);
  }
}

TEST(GatedNorm, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(gated(2), gated_inputs(2, 3, 12, {2, 3, 4}), kGatedNames);
  expect_gradients_match_differences(gated(3), gated_inputs(2, 3, 12, {2}), kGatedNames);
}

TEST(GatedNorm, ShutGatesStayFinite) {
  Tensors in = gated_inputs(1, 4, 8, {2}, at::kFloat);
  in[1] = in[1] * 1e3;  // SiLU of -1e3 is 0, of 1e3 itself
  expect_close(gated(2), gated_truth(2), in, kSingle, kGatedNames);
}

TEST(GatedNorm, TakesStridedInputs) {
  const Tensors in = gated_inputs(3, 17, 24, {3, 17, 2}, at::kFloat);
  Tensors strided = in;
  const at::Tensor wide =
      at::cat({in[1], in[0], in[1]}, 2);  // z stands beside other columns of one projection
  strided[0] = wide.narrow(2, 24, 24);
  strided[1] = wide.narrow(2, 48, 24);
  strided[3] = in[3].transpose(0, 2).contiguous().transpose(0, 2);
  expect_same_bits(evaluate(gated(2), in), evaluate(gated(2), strided), "narrowed");
  strided[0] = in[0].transpose(0, 2).contiguous().transpose(0, 2);
  expect_same_bits(evaluate(gated(2), in), evaluate(gated(2), strided), "transposed");
}

TEST(GatedNorm, RepeatsBitForBitOnAnyNumberOfThreads) {
  expect_repeatable(gated(2), gated_inputs(2, 150, 300, {2}, at::kFloat));
}

TEST(GatedNorm, RefusesWhatDoesNotFit) {
  const Tensors in = gated_inputs(2, 5, 12, {2});
  EXPECT_EQ(refusal([&] { gated_norm(in[0], in[1].slice(2, 1), in[2], 1, std::nullopt, kEps); }),
            "gated_norm: z is float64 [2, 5, 11], expected float64 [2, 5, 12]");
  EXPECT_EQ(refusal([&] { gated_norm(in[0], in[1], in[2], 5, std::nullopt, kEps); }),
            "gated_norm: 5 spans do not divide E = 12");
  EXPECT_EQ(refusal([&] { gated_norm(in[0], in[1], in[2], 1, in[2].slice(0, 0, 5), kEps); }),
            "gated_norm: scale is float64 [5], expected the dtype of weight and a shape broadcastable to [2, "
            "5, S], S "
            "a divisor of 12");
}

}  // namespace
}  // namespace dm::kernels::test
