// The scan of Mamba-2 against the recurrence in float64, and its invariances.

#include "kernels/ssd/ssd.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "kernels/ssd/ssd_pieces.h"
#include "kernels/ssd/ssd_reference.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

const std::vector<std::string> kNames = {"x", "dt", "a", "b", "c", "d", "initial_state", "seq_idx"};

struct Sizes {
  int64_t batch = 2, length = 70, heads = 4, head_dim = 8, groups = 2, d_state = 16;
};

/// x, dt, a, b, c, d, initial_state, seq_idx; dt up to 0.1 and a down to -16 as initialisation has them.
Tensors inputs(const Sizes& s, at::ScalarType dtype = at::kDouble, const at::Tensor& seq_idx = {}) {
  return {normal("x", {s.batch, s.length, s.heads, s.head_dim}, dtype),
          uniform("dt", {s.batch, s.length, s.heads}, 0.001, 0.1, dtype),
          uniform("a", {s.heads}, -16, -1, dtype),
          normal("b", {s.batch, s.length, s.groups, s.d_state}, dtype),
          normal("c", {s.batch, s.length, s.groups, s.d_state}, dtype),
          normal("d", {s.heads}, dtype),
          normal("initial", {s.batch, s.heads, s.head_dim, s.d_state}, dtype),
          seq_idx.defined() ? seq_idx : at::zeros({s.batch, s.length}, at::kInt)};
}

std::optional<at::Tensor> given(const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; }

Function scan(int64_t chunk = 256) {
  return [chunk](const Tensors& t) -> Tensors {
    const ScanOutput out = ssd(t[0], t[1], t[2], t[3], t[4], t[5], t[7], given(t[6]), chunk);
    return {out.y, out.final_state};
  };
}
Tensors reference(const Tensors& t) {
  const ScanOutput out = ssd_reference(t[0], t[1], t[2], t[3], t[4], t[5], t[7], given(t[6]));
  return {out.y, out.final_state};
}

// Both sides are float64; sums of up to 100 terms and exponents up to 200 leave some 1e-14.
constexpr double kExact = 1e-12;
// float32 rounds at 6e-8. The gradients of a, d and dt are sums over hundreds of terms of either sign that
// cancel to a tenth or less; LosesNoMoreThanTheRecurrence holds them to what is unavoidable.
constexpr double kSingle = 1e-5;

TEST(Ssd, EqualsTheRecurrence) {
  const Poison poison;
  for (const Sizes& s :
       {Sizes{}, Sizes{1, 1, 1, 1, 1, 1}, Sizes{3, 2, 2, 5, 1, 3}, Sizes{1, 3, 4, 16, 4, 8},
        Sizes{1, 63, 2, 32, 1, 64}, Sizes{1, 64, 2, 20, 2, 20}, Sizes{1, 65, 3, 17, 3, 130},
        Sizes{1, 127, 1, 64, 1, 16}, Sizes{2, 129, 4, 3, 1, 33}, Sizes{1, 200, 2, 8, 1, 8}}) {
    SCOPED_TRACE(fmt::format("B {} L {} H {} P {} G {} N {}", s.batch, s.length, s.heads, s.head_dim,
                             s.groups, s.d_state));
    expect_close(scan(), reference, inputs(s), kExact, kNames);
    expect_close(scan(), reference, inputs(s, at::kFloat), kSingle, kNames);
  }
}

TEST(Ssd, WithoutInitialState) {
  const Poison poison;
  Tensors in = inputs({});
  in[6] = at::Tensor();
  expect_close(scan(), reference, in, kExact, kNames);
}

TEST(Ssd, EveryLevelEqualsTheRecurrence) {
  for (const CpuLevel level : levels()) {
    SCOPED_TRACE(name(level));
    const WithLevel with(level);
    const Poison poison;
    for (const Sizes& s : {Sizes{}, Sizes{1, 67, 2, 5, 1, 3}, Sizes{1, 130, 4, 32, 2, 64}}) {
      const at::Tensor packed =
          documents(std::vector<std::vector<int64_t>>(static_cast<size_t>(s.batch), {1, 20, 40}), s.length);
      expect_close(scan(), reference, inputs(s, at::kDouble, packed), kExact, kNames);
      expect_close(scan(), reference, inputs(s, at::kFloat, packed), kSingle, kNames);
    }
  }
}

TEST(Ssd, LosesNoMoreThanTheRecurrence) {
  const Tensors in = inputs({2, 200, 4, 32, 2, 64}, at::kFloat);
  Tensors rounded;  // float32's values in float64: the same problem for all
  for (const at::Tensor& t : in) rounded.push_back(t.is_floating_point() ? t.to(at::kDouble) : t);
  const Evaluation truth = evaluate(reference, rounded), plain = evaluate(reference, in);
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    const Evaluation got = evaluate(scan(), in);
    // The plain form adds in another order, and may be lucky where a gradient is a handful of numbers (a, d):
    // hence 4 and 2e-7.
    const auto check = [&](const Tensors& mine, const Tensors& theirs, const Tensors& exact,
                           const char* what) {
      for (size_t i = 0; i < exact.size(); ++i)
        EXPECT_TRUE(!exact[i].defined() ||
                    relative_error(mine[i], exact[i]) <= 4 * relative_error(theirs[i], exact[i]) + 2e-7)
            << name(level) << what << i;
    };
    check(got.outputs, plain.outputs, truth.outputs, ": output ");
    check(got.gradients, plain.gradients, truth.gradients, ": gradient ");
  }
}

TEST(Ssd, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(
      scan(4), inputs({2, 11, 4, 3, 2, 5}, at::kDouble, documents({{4, 3}, {11}}, 11)), kNames);
}

TEST(Ssd, ChunkLengthIsRoundingOnly) {
  const Sizes s{1, 150, 2, 8, 1, 16};
  const Tensors in = inputs(s, at::kDouble, documents({{30, 70}}, s.length));
  for (const int64_t chunk : {1, 2, 5, 16, 63, 64, 65, 256}) {
    SCOPED_TRACE(chunk);
    expect_close(scan(chunk), reference, in, kExact, kNames);
  }
}

TEST(Ssd, LargeDecaysNeitherOverflowNorLoseTheirNeighbours) {
  // -32 * 0.1 over 256 tokens is exp(819) the wrong way round; -1e6 and -1e30 in between must not blur what
  // follows them.
  Sizes s{1, 256, 4, 8, 1, 8};
  Tensors in = inputs(s);
  in[1] = at::full_like(in[1], 0.1);
  in[2] = at::tensor({-32.0, -1e3, -1e6, -1e30}, at::kDouble);
  expect_close(scan(), reference, in, kExact, kNames);
  in[1] = uniform("spread", {1, 256, 4}, -14, 3).exp();  // Δ from 1e-6 to 20
  in[2] = at::tensor({-1.0, -32.0, -1e4, -1e12}, at::kDouble);
  expect_close(scan(), reference, in, 1e-11, kNames);  // sums of exponents up to 64 * 1024 round at 1e-11
}

TEST(Ssd, SumsOfDecaysKeepTheirDifferences) {
  // Exponents sum to 200 over a chunk, where float32 is exact to 1e-5 only; what counts is their differences.
  Tensors in = inputs({1, 128, 4, 8, 1, 8}, at::kFloat), rounded;
  in[1] = uniform("dt", {1, 128, 4}, 0.08, 0.1, at::kFloat);
  in[2] = at::full_like(in[2], -32);
  for (const at::Tensor& t : in) rounded.push_back(t.is_floating_point() ? t.to(at::kDouble) : t);
  EXPECT_LE(relative_error(scan()(in)[0], reference(rounded)[0]), 4e-7);  // a few roundings of 6e-8
}

TEST(Ssd, StepsTowardsZero) {
  Tensors in = inputs({});
  for (const double dt : {1e-12, 0.0}) {
    in[1] = at::full_like(in[1], dt);
    expect_close(scan(), reference, in, kExact, kNames);
  }
}

TEST(Ssd, SplitRowsCarryTheStateAndItsGradient) {
  const Sizes s{2, 90, 4, 8, 2, 16};
  const Tensors in = inputs(s, at::kDouble, documents({{50}, {10, 30}}, s.length));
  for (const int64_t at : {1, 10, 37, 50, 64, 89}) {
    SCOPED_TRACE(at);
    const Function split = [at](const Tensors& t) -> Tensors {
      const auto part = [&](int64_t i, int64_t begin, int64_t end) {
        return t[static_cast<size_t>(i)].slice(1, begin, end);
      };
      const int64_t end = t[0].size(1);
      const ScanOutput left = ssd(part(0, 0, at), part(1, 0, at), t[2], part(3, 0, at), part(4, 0, at), t[5],
                                  part(7, 0, at), t[6], 64);
      const Documents rest(part(7, at, end), part(7, at - 1, at));
      const ScanOutput right = ssd(part(0, at, end), part(1, at, end), t[2], part(3, at, end),
                                   part(4, at, end), t[5], rest, left.final_state, 64);
      return {at::cat({left.y, right.y}, 1), right.final_state};
    };
    // Row 0 has a border at 50, row 1 at 10 and 40: there the state does not cross the cut, in the other row
    // it does.
    expect_close(split, reference, in, kExact, kNames);
  }
}

TEST(Ssd, PermutedHeadsPermuteTheResult) {
  const Tensors in = inputs({2, 70, 4, 8, 1, 16}, at::kFloat);
  const at::Tensor order = at::tensor({2, 0, 3, 1}, at::kLong);
  Tensors permuted = in;
  for (const auto& [input, dim] : {std::pair{0, 2}, {1, 2}, {2, 0}, {5, 0}, {6, 1}})
    permuted[static_cast<size_t>(input)] = in[static_cast<size_t>(input)].index_select(dim, order);
  const Tensors plain = scan()(in), moved = scan()(permuted);
  EXPECT_TRUE(same_bits(moved[0], plain[0].index_select(2, order)));
  EXPECT_TRUE(same_bits(moved[1], plain[1].index_select(1, order)));
}

TEST(Ssd, DocumentsDoNotSeeEachOther) {
  const Sizes s{1, 150, 4, 8, 2, 16};
  const std::vector<int64_t> lengths = {20, 1, 79, 50};
  const Tensors in = inputs(s, at::kFloat, documents({lengths}, s.length));
  const Evaluation before = evaluate(scan(), in);
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    for (const double value : {1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
      SCOPED_TRACE(fmt::format("document of {} tokens from {}, {} added", length, begin, value));
      Tensors changed = in;
      for (const size_t i : {0, 1, 3, 4}) {
        changed[i] = in[i].clone();
        changed[i].slice(1, begin, begin + length).add_(value);
      }
      const Evaluation after = evaluate(scan(), changed);
      const auto outside = [&](const at::Tensor& t) {
        return at::cat({t.slice(1, 0, begin), t.slice(1, begin + length)}, 1);
      };
      EXPECT_TRUE(same_bits(outside(before.outputs[0]), outside(after.outputs[0]))) << "y";
      EXPECT_TRUE(begin + length == s.length || same_bits(before.outputs[1], after.outputs[1]))
          << "final_state";
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

TEST(Ssd, APackedDocumentEqualsItAlone) {
  const Tensors in = inputs({1, 150, 2, 8, 1, 16}, at::kFloat, documents({{33, 70}}, 150));
  const at::Tensor packed = scan()(in)[0];
  Tensors alone = in;
  for (const size_t i : {0, 1, 3, 4, 7}) alone[i] = in[i].slice(1, 33, 103);
  alone[6] = at::Tensor();
  EXPECT_TRUE(same_bits(packed.slice(1, 33, 103), scan()(alone)[0]));
}

TEST(Ssd, TakesStridedInputs) {
  const Sizes s{2, 70, 4, 8, 2, 16};
  const Tensors in = inputs(s, at::kFloat);
  Tensors strided = in;
  const auto inside_wider = [](const at::Tensor& t) {  // x, B and C stand side by side in one convolved array
    std::vector<int64_t> shape = t.sizes().vec();
    shape.back() += 5;
    at::Tensor wide = at::full(shape, std::nan(""), t.options());
    wide.narrow(-1, 2, t.size(-1)).copy_(t);
    return wide.narrow(-1, 2, t.size(-1));
  };
  for (const size_t i : {0, 1, 3, 4}) strided[i] = inside_wider(in[i]);
  expect_same_bits(evaluate(scan(), in), evaluate(scan(), strided), "narrowed");
  for (const size_t i : {0, 1, 3, 4, 6, 7}) strided[i] = in[i].transpose(0, -1).contiguous().transpose(0, -1);
  expect_same_bits(evaluate(scan(), in), evaluate(scan(), strided), "transposed");
  strided = in;
  for (const size_t i : {0, 1, 3, 4}) strided[i] = in[i].slice(0, 0, 1).expand_as(in[i]);
  Tensors dense = strided;
  for (at::Tensor& t : dense) t = t.contiguous();
  expect_same_bits(evaluate(scan(), dense), evaluate(scan(), strided), "expanded");
}

TEST(Ssd, RepeatsBitForBitOnAnyNumberOfThreads) {
  expect_repeatable(scan(), inputs({2, 150, 4, 8, 2, 16}, at::kFloat, documents({{20, 90}, {64}}, 150)));
}

TEST(Ssd, GradientsOfOneOutputAlone) {
  const Tensors in = inputs({});
  for (const size_t output : {0, 1}) {
    const auto only = [output](const Function& f) {
      return [f, output](const Tensors& t) -> Tensors { return {f(t)[output]}; };
    };
    const Evaluation got = evaluate(only(scan()), in), expected = evaluate(only(reference), in);
    for (size_t i = 0; i + 1 < in.size(); ++i) {
      const at::Tensor truth =
          expected.gradients[i].defined() ? expected.gradients[i] : at::zeros_like(in[i]);
      EXPECT_LE(relative_error(got.gradients[i], truth), kExact) << kNames[i];
    }
  }
}

TEST(Ssd, StepsEqualTheScan) {
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    for (const Sizes& s : {Sizes{2, 9, 4, 8, 2, 16}, Sizes{1, 5, 3, 5, 1, 3}}) {
      const Tensors in = inputs(s);
      const Tensors whole = reference(in);
      at::Tensor state = in[6].clone();
      for (int64_t t = 0; t < s.length; ++t) {
        const at::Tensor y = ssd_step(in[0].select(1, t), in[1].select(1, t), in[2], in[3].select(1, t),
                                      in[4].select(1, t), in[5], state);
        EXPECT_LE(relative_error(y, whole[0].select(1, t)), kExact) << t;
      }
      EXPECT_LE(relative_error(state, whole[1]), kExact);
    }
  }
}

TEST(Ssd, RefusesWhatDoesNotFit) {
  const Tensors in = inputs({});
  const auto with = [&](size_t i, const at::Tensor& t) {
    Tensors wrong = in;
    wrong[i] = t;
    return refusal([&] { scan()(wrong); });
  };
  EXPECT_EQ(with(1, in[1].slice(1, 1)), "ssd: dt is float64 [2, 69, 4], expected float64 [2, 70, 4]");
  EXPECT_EQ(with(2, in[2].to(at::kFloat)), "ssd: a is float32 [4], expected float64 [4]");
  EXPECT_EQ(with(3, in[3].select(2, 0)), "ssd: b is float64 [2, 70, 16], expected float64 [2, 70, *, *]");
  EXPECT_EQ(with(4, in[4].slice(3, 1)), "ssd: c is float64 [2, 70, 2, 15], expected float64 [2, 70, 2, 16]");
  EXPECT_EQ(with(6, in[6].slice(1, 1)),
            "ssd: initial_state is float64 [2, 3, 8, 16], expected float64 [2, 4, 8, 16]");
  EXPECT_EQ(with(7, in[7].to(at::kLong)), "ssd: seq_idx is int64 [2, 70], expected int32 [2, 70]");
  EXPECT_EQ(
      with(0, in[0].to(at::kHalf)),
      "ssd: x is Half [2, 70, 4, 8], expected float32 or float64 on the CPU, float32 or bfloat16 on a GPU");
  EXPECT_EQ(with(5, at::Tensor()), "ssd: d is undefined, expected float64 [4]");
  EXPECT_EQ(refusal([&] { scan(0)(in); }), "ssd: chunk is 0, expected at least 1");
}

TEST(SsdPieces, RunFromEachDocumentsFirstToken) {
  const at::Tensor ids = documents({{3, 1}, {}}, 9);
  const bool enters[] = {true, true};
  const SsdPieces cut = cut_rows(ids.const_data_ptr<int32_t>(), 2, 9, 4, enters);
  std::vector<std::vector<int64_t>> got;
  for (const SsdPiece& p : cut.pieces) got.push_back({p.row, p.begin, p.length, p.carried});
  EXPECT_EQ(got, (std::vector<std::vector<int64_t>>{{0, 0, 3, 0},
                                                    {0, 3, 1, -1},
                                                    {0, 4, 4, -1},
                                                    {0, 8, 1, 1},
                                                    {1, 0, 4, 2},
                                                    {1, 4, 4, 3},
                                                    {1, 8, 1, 4}}));
  EXPECT_EQ(cut.rows, (std::vector<int64_t>{0, 4, 7}));
  EXPECT_EQ(cut.slots, 5);
  const bool second[] = {false, true};
  const SsdPieces later = cut_rows(ids.const_data_ptr<int32_t>(), 2, 9, 4, second);
  EXPECT_EQ(later.pieces[0].carried, -1);
  EXPECT_EQ(later.pieces[4].carried, 1);
  EXPECT_EQ(later.slots, 4);
}

}  // namespace
}  // namespace dm::kernels::test
