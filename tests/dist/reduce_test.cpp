#include "dist/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace dm::dist {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class T>
std::vector<T> reduced(Reduce op, DType dtype, std::vector<std::vector<T>> pieces) {
  std::vector<const void*> pointers;
  for (const auto& piece : pieces) pointers.push_back(piece.data());
  std::vector<T> out(pieces[0].size());
  reduce_pieces(op, dtype, pointers, out.data(), static_cast<int64_t>(out.size()));
  return out;
}

TEST(Reduce, AddsInTheOrderOfTheRanks) {
  // (1 + 2^-24) + 2^-24 is 1 in float, while 1 + (2^-24 + 2^-24) is not.
  const float small = 0x1p-24f;
  EXPECT_EQ(reduced<float>(Reduce::sum, DType::f32, {{1.0f}, {small}, {small}}), (std::vector<float>{1.0f}));
  EXPECT_EQ(reduced<float>(Reduce::sum, DType::f32, {{small}, {small}, {1.0f}}),
            (std::vector<float>{1.0f + 0x1p-23f}));
}

TEST(Reduce, BFloat16IsSummedInFloatAndRoundedOnce) {
  const uint16_t one = 0x3f80, two_to_minus_8 = 0x3b80, two_to_minus_9 = 0x3b00, nan = 0x7fc1, max = 0x7f7f,
                 infinity = 0x7f80;
  using Bits = std::vector<uint16_t>;
  const auto sum = [](std::vector<Bits> pieces) {
    return reduced<uint16_t>(Reduce::sum, DType::bf16, std::move(pieces));
  };
  // bf16 has 8 bits: 1 + 2^-8 alone rounds to even (1); two of them make 1 + 2^-7, which rounding each time
  // would lose.
  EXPECT_EQ(sum({{one}, {two_to_minus_8}}), Bits{one});
  EXPECT_EQ(sum({{one}, {two_to_minus_8}, {two_to_minus_8}}), Bits{0x3f81});
  EXPECT_EQ(sum({{one}, {two_to_minus_8}, {two_to_minus_9}}), Bits{0x3f81});  // above the half: up
  EXPECT_EQ(sum({{max}, {max}}), Bits{infinity});
  EXPECT_EQ(sum({{one}, {nan}}), Bits{0x7fc0});
}

TEST(Reduce, IntegersWrapAndKeepAll64Bits) {
  const int64_t big = (int64_t{1} << 62) + 1;
  EXPECT_EQ(reduced<int64_t>(Reduce::sum, DType::i64, {{big}, {big}}),
            (std::vector<int64_t>{std::numeric_limits<int64_t>::min() + 2}));
  EXPECT_EQ(reduced<uint64_t>(Reduce::max, DType::u64, {{1}, {~uint64_t{0}}, {2}}),
            (std::vector<uint64_t>{~uint64_t{0}}));
  EXPECT_EQ(reduced<uint8_t>(Reduce::sum, DType::u8, {{200}, {100}}), (std::vector<uint8_t>{44}));
  EXPECT_EQ(reduced<int32_t>(Reduce::min, DType::i32, {{-3}, {2}}), (std::vector<int32_t>{-3}));
}

TEST(Reduce, MaximumAndMinimumHandOnANaNFromAnyRank) {
  for (const Reduce op : {Reduce::max, Reduce::min})
    for (int where = 0; where < 3; ++where) {
      std::vector<std::vector<float>> pieces{{1}, {2}, {3}};
      pieces[where][0] = kNaN;
      EXPECT_TRUE(std::isnan(reduced<float>(op, DType::f32, pieces)[0])) << where;
    }
}

TEST(Reduce, OutputMayBeAPieceAtAnyLength) {
  for (const int64_t count : {0, 1, 1023, 1024, 1025, 5000}) {
    std::vector<double> a(count), b(count), expected(count);
    std::iota(a.begin(), a.end(), 0.0);
    std::iota(b.begin(), b.end(), 7.0);
    for (int64_t i = 0; i < count; ++i) expected[i] = a[i] + b[i];
    reduce_pieces(Reduce::sum, DType::f64, {a.data(), b.data()}, b.data(), count);
    EXPECT_EQ(b, expected);
  }
}

}  // namespace
}  // namespace dm::dist
