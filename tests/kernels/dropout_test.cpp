// Dropout: the mask by its formula, and that it belongs to the elements, whoever holds them.

#include "kernels/dropout/dropout.h"

#include <numeric>

#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

const CounterRng kRng(7, "dropout test");

/// Rows with the numbers given, whole.
TokenPlaces rows(std::vector<int64_t> samples, int64_t length) {
  return {at::tensor(samples, at::kLong), length, 0, 0};
}

at::Tensor ones(int64_t batch, int64_t length, int64_t width) {
  return at::ones({batch, length, width}, at::kDouble);
}

TEST(Dropout, EqualsItsFormula) {
  // Beyond 32 bits, a width that is not made of whole draws.
  const std::vector<int64_t> samples = {3, int64_t{5} << 32 | 1};
  const at::Tensor x = normal("x", {2, 5, 7});
  const at::Tensor y = dropout(x, 0.3, kRng, rows(samples, 5));
  int64_t kept = 0;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t t = 0; t < 5; ++t)
      for (int64_t c = 0; c < 7; ++c) {
        const auto words = kRng.draw(static_cast<uint64_t>(t) << 32 | static_cast<uint64_t>(c / 4),
                                     static_cast<uint64_t>(samples[static_cast<size_t>(b)]));
        const bool keep = words[static_cast<size_t>(c % 4)] * 0x1p-32 >= 0.3;
        kept += keep;
        EXPECT_EQ(y[b][t][c].item<double>(), keep ? x[b][t][c].item<double>() * (1 / 0.7) : 0.0);
      }
  EXPECT_GT(kept, 30);
  EXPECT_LT(kept, 70);
}

TEST(Dropout, DropsTheShareAskedForAndKeepsTheMean) {
  for (const double p : {0.0, 0.1, 0.5, 0.9}) {
    const at::Tensor y = dropout(ones(8, 100, 129), p, kRng, rows({0, 1, 2, 3, 4, 5, 6, 7}, 100));
    const double elements = static_cast<double>(y.numel());
    // Four standard deviations of a share of 103,200 draws.
    EXPECT_NEAR(y.eq(0).sum().item<double>() / elements, p, 4 * std::sqrt(p * (1 - p) / elements));
    EXPECT_NEAR(y.sum().item<double>() / elements, 1, 4 * std::sqrt(p / (1 - p) / elements));
  }
}

TEST(Dropout, MasksDifferByTokenSampleAndStream) {
  const at::Tensor y = dropout(ones(2, 3, 64), 0.5, kRng, rows({0, 1}, 3)).flatten(0, 1);
  for (int64_t a = 0; a < 6; ++a)
    for (int64_t b = 0; b < a; ++b) EXPECT_FALSE(at::equal(y[a], y[b])) << a << " " << b;
  const at::Tensor other = dropout(ones(2, 3, 64), 0.5, CounterRng(7, "another"), rows({0, 1}, 3));
  EXPECT_FALSE(at::equal(other.flatten(0, 1), y));
}

TEST(Dropout, AnElementIsDroppedWhoeverHoldsIt) {
  const at::Tensor x = normal("x", {4, 9, 6});
  const at::Tensor whole = dropout(x, 0.4, kRng, rows({20, 21, 22, 23}, 9));
  // Some rows.
  EXPECT_TRUE(same_bits(dropout(x.narrow(0, 1, 2).contiguous(), 0.4, kRng, rows({21, 22}, 9)),
                        whole.narrow(0, 1, 2).contiguous()));
  // A piece of each row.
  TokenPlaces piece = rows({20, 21, 22, 23}, 5);
  piece.position = 3;
  EXPECT_TRUE(same_bits(dropout(x.narrow(1, 3, 5).contiguous(), 0.4, kRng, piece),
                        whole.narrow(1, 3, 5).contiguous()));
  // Consecutive tokens of all rows.
  TokenPlaces share = rows({20, 21, 22, 23}, 9);
  share.first = 13;
  EXPECT_TRUE(same_bits(dropout(x.flatten(0, 1).narrow(0, 13, 17).contiguous(), 0.4, kRng, share),
                        whole.flatten(0, 1).narrow(0, 13, 17).contiguous()));
}

TEST(Dropout, GradientsPassWhereElementsDo) {
  const TokenPlaces places = rows({4, 9}, 5);
  const Function f = [&](const Tensors& t) -> Tensors { return {dropout(t[0], 0.5, kRng, places)}; };
  const Function formula = [&](const Tensors& t) -> Tensors {
    return {t[0] * dropout(ones(2, 5, 7), 0.5, kRng, places)};
  };
  expect_close(f, formula, {normal("x", {2, 5, 7})}, 0, {"x"});
  expect_gradients_match_differences(f, {normal("x", {2, 5, 7})}, {"x"});
  expect_repeatable(f, {normal("x", {2, 5, 333}, at::kFloat)});
}

TEST(Dropout, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal([] {
              dropout(ones(2, 3, 4), 1, kRng, rows({0, 1}, 3));
            }),
            "dropout: p 1 is not in [0, 1)");
  EXPECT_EQ(refusal([] { dropout(ones(2, 3, 4), 0.5, kRng, rows({0}, 3)); }),
            "dropout: x has 6 tokens from 0 on, of 1 rows of 3");
}

}  // namespace
}  // namespace dm::kernels::test
