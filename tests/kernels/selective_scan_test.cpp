// The scan of Mamba-1 against the recurrence in float64, and its invariances.

#include "kernels/selective_scan/selective_scan.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "kernels/selective_scan/selective_scan_reference.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

const std::vector<std::string> kNames = {"x", "dt", "a", "b", "c", "d", "initial_state", "seq_idx"};

struct Sizes {
  int64_t batch = 2, length = 70, channels = 20, d_state = 16;
};

/// x, dt, a, b, c, d, initial_state, seq_idx; dt up to 0.1 and a from -1 to -16 as initialisation has them.
Tensors inputs(const Sizes& s, at::ScalarType dtype = at::kDouble, const at::Tensor& seq_idx = {}) {
  return {normal("x", {s.batch, s.length, s.channels}, dtype),
          uniform("dt", {s.batch, s.length, s.channels}, 0.001, 0.1, dtype),
          uniform("a", {s.channels, s.d_state}, -16, -1, dtype),
          normal("b", {s.batch, s.length, s.d_state}, dtype),
          normal("c", {s.batch, s.length, s.d_state}, dtype),
          normal("d", {s.channels}, dtype),
          normal("initial", {s.batch, s.channels, s.d_state}, dtype),
          seq_idx.defined() ? seq_idx : at::zeros({s.batch, s.length}, at::kInt)};
}

std::optional<at::Tensor> given(const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; }
Tensors scan(const Tensors& t) {
  const ScanOutput out = selective_scan(t[0], t[1], t[2], t[3], t[4], t[5], t[7], given(t[6]));
  return {out.y, out.final_state};
}
Tensors reference(const Tensors& t) {
  const ScanOutput out = selective_scan_reference(t[0], t[1], t[2], t[3], t[4], t[5], t[7], given(t[6]));
  return {out.y, out.final_state};
}

constexpr double kExact = 1e-13;  // both float64, the same recurrence; sums over tokens in blocks
constexpr double kSingle =
    3e-6;  // float32: 6e-8 a rounding; sums over tokens and channels whose terms cancel

TEST(SelectiveScan, EqualsTheRecurrence) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    const Poison poison;
    for (const Sizes& s : {Sizes{}, Sizes{1, 1, 1, 1}, Sizes{3, 2, 5, 3}, Sizes{1, 31, 16, 8},
                           Sizes{1, 32, 130, 2}, Sizes{1, 33, 260, 5}, Sizes{1, 65, 7, 16}}) {
      SCOPED_TRACE(
          fmt::format("{} B {} L {} E {} N {}", name(level), s.batch, s.length, s.channels, s.d_state));
      const at::Tensor packed =
          documents(std::vector<std::vector<int64_t>>(static_cast<size_t>(s.batch), {1, 20, 12}), s.length);
      expect_close(scan, reference, inputs(s, at::kDouble, packed), kExact, kNames);
      expect_close(scan, reference, inputs(s, at::kFloat, packed), kSingle, kNames);
    }
  }
}

TEST(SelectiveScan, WithoutInitialState) {
  const Poison poison;
  Tensors in = inputs({});
  in[6] = at::Tensor();
  expect_close(scan, reference, in, kExact, kNames);
}

TEST(SelectiveScan, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(scan, inputs({2, 11, 5, 3}, at::kDouble, documents({{4, 3}, {11}}, 11)),
                                     kNames);
}

TEST(SelectiveScan, LargeDecaysAndVanishingSteps) {
  Tensors in = inputs({1, 80, 4, 4});
  in[2] = at::tensor({-32.0, -1e3, -1e6, -1e30}, at::kDouble).view({4, 1}).expand({4, 4}).contiguous();
  in[1] = at::full_like(in[1], 0.1);
  expect_close(scan, reference, in, kExact, kNames);
  in[1] = uniform("spread", {1, 80, 4}, -14, 3).exp();
  expect_close(scan, reference, in, kExact, kNames);
  in[1] = at::zeros_like(in[1]);
  expect_close(scan, reference, in, kExact, kNames);
}

TEST(SelectiveScan, SplitRowsCarryTheStateAndItsGradient) {
  const Sizes s{2, 90, 20, 8};
  const Tensors in = inputs(s, at::kDouble, documents({{50}, {10, 30}}, s.length));
  for (const int64_t at : {1, 32, 37, 89}) {
    SCOPED_TRACE(at);
    const Function split = [at](const Tensors& t) -> Tensors {
      const auto part = [&](size_t i, int64_t begin, int64_t end) { return t[i].slice(1, begin, end); };
      const int64_t end = t[0].size(1);
      const ScanOutput left = selective_scan(part(0, 0, at), part(1, 0, at), t[2], part(3, 0, at),
                                             part(4, 0, at), t[5], part(7, 0, at), t[6]);
      const ScanOutput right = selective_scan(part(0, at, end), part(1, at, end), t[2], part(3, at, end),
                                              part(4, at, end), t[5], part(7, at, end), left.final_state);
      return {at::cat({left.y, right.y}, 1), right.final_state};
    };
    expect_close(split, reference, in, kExact, kNames);
  }
}

TEST(SelectiveScan, DocumentsDoNotSeeEachOther) {
  const std::vector<int64_t> lengths = {20, 1, 79, 50};
  const Tensors in = inputs({1, 150, 20, 8}, at::kFloat, documents({lengths}, 150));
  const Evaluation before = evaluate(scan, in);
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    for (const double value : {1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
      SCOPED_TRACE(fmt::format("document of {} tokens from {}, {} added", length, begin, value));
      Tensors changed = in;
      for (const size_t i : {0, 1, 3, 4}) {
        changed[i] = in[i].clone();
        changed[i].slice(1, begin, begin + length).add_(value);
      }
      const Evaluation after = evaluate(scan, changed);
      const auto outside = [&](const at::Tensor& t) {
        return at::cat({t.slice(1, 0, begin), t.slice(1, begin + length)}, 1);
      };
      EXPECT_TRUE(same_bits(outside(before.outputs[0]), outside(after.outputs[0]))) << "y";
      EXPECT_TRUE(begin + length == 150 || same_bits(before.outputs[1], after.outputs[1])) << "final_state";
      EXPECT_TRUE(begin == 0 || same_bits(before.gradients[6], after.gradients[6]))
          << "gradient of initial_state";
      for (const size_t i : {0, 1, 3, 4})
        EXPECT_TRUE(same_bits(outside(before.gradients[i]), outside(after.gradients[i])))
            << "gradient of " << kNames[i];
      EXPECT_FALSE(same_bits(before.outputs[0], after.outputs[0])) << "the change must move something";
    }
    begin += length;
  }
}

TEST(SelectiveScan, TakesStridedInputs) {
  const Tensors in = inputs({}, at::kFloat);
  Tensors strided = in;
  for (const size_t i : {0, 1, 3, 4}) {
    std::vector<int64_t> shape = in[i].sizes().vec();
    shape.back() += 5;
    at::Tensor wide = at::full(shape, std::nan(""), at::kFloat);
    wide.narrow(-1, 2, in[i].size(-1)).copy_(in[i]);
    strided[i] = wide.narrow(-1, 2, in[i].size(-1));
  }
  expect_same_bits(evaluate(scan, in), evaluate(scan, strided), "narrowed");
  for (const size_t i : {0, 1, 2, 3, 4, 6, 7})
    strided[i] = in[i].transpose(0, -1).contiguous().transpose(0, -1);
  expect_same_bits(evaluate(scan, in), evaluate(scan, strided), "transposed");
}

TEST(SelectiveScan, RepeatsBitForBitOnAnyNumberOfThreads) {
  expect_repeatable(scan, inputs({2, 100, 300, 8}, at::kFloat, documents({{20, 50}, {64}}, 100)));
}

TEST(SelectiveScan, GradientsOfOneOutputAlone) {
  const Tensors in = inputs({});
  for (const size_t output : {0, 1}) {
    const auto only = [output](const Function& f) {
      return [f, output](const Tensors& t) -> Tensors { return {f(t)[output]}; };
    };
    const Evaluation got = evaluate(only(scan), in), expected = evaluate(only(reference), in);
    for (size_t i = 0; i + 1 < in.size(); ++i) {
      const at::Tensor truth =
          expected.gradients[i].defined() ? expected.gradients[i] : at::zeros_like(in[i]);
      EXPECT_LE(relative_error(got.gradients[i], truth), kExact) << kNames[i];
    }
  }
}

TEST(SelectiveScan, StepsEqualTheScan) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    for (const Sizes& s : {Sizes{2, 9, 200, 16}, Sizes{1, 5, 3, 5}}) {
      const Tensors in = inputs(s);
      const Tensors whole = reference(in);
      at::Tensor state = in[6].clone();
      for (int64_t t = 0; t < s.length; ++t) {
        const at::Tensor y = selective_step(in[0].select(1, t), in[1].select(1, t), in[2], in[3].select(1, t),
                                            in[4].select(1, t), in[5], state);
        EXPECT_LE(relative_error(y, whole[0].select(1, t)), kExact) << t;
      }
      EXPECT_LE(relative_error(state, whole[1]), kExact);
    }
  }
}

TEST(SelectiveScan, RefusesWhatDoesNotFit) {
  const Tensors in = inputs({});
  const auto with = [&](size_t i, const at::Tensor& t) {
    Tensors wrong = in;
    wrong[i] = t;
    return refusal([&] { scan(wrong); });
  };
  EXPECT_EQ(with(1, in[1].slice(2, 1)),
            "selective_scan: dt is float64 [2, 70, 19], expected float64 [2, 70, 20]");
  EXPECT_EQ(with(2, in[2].slice(0, 1)), "selective_scan: a is float64 [19, 16], expected float64 [20, *]");
  EXPECT_EQ(with(3, in[3].slice(2, 1)),
            "selective_scan: b is float64 [2, 70, 15], expected float64 [2, 70, 16]");
  EXPECT_EQ(with(6, in[6].to(at::kFloat)),
            "selective_scan: initial_state is float32 [2, 20, 16], expected float64 [2, 20, 16]");
  EXPECT_EQ(with(7, in[7].to(at::kLong)), "selective_scan: seq_idx is int64 [2, 70], expected int32 [2, 70]");
}

}  // namespace
}  // namespace dm::kernels::test
