// Numbers from text: what is legal and, longer, what is not.

#include "core/numbers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;
using testing::HasSubstr;

TEST(NumbersTest, Integers) {
  const std::pair<const char*, int64_t> legal[] = {{"0", 0},
                                                   {"-0", 0},
                                                   {"7", 7},
                                                   {"-7", -7},
                                                   {" 7\t", 7},
                                                   {"007", 7},
                                                   {"12k", 12'000},
                                                   {"-3M", -3'000'000},
                                                   {"2G", 2'000'000'000},
                                                   {"1_000_000", 1'000'000},
                                                   {"1_0k", 10'000},
                                                   {"9223372036854775807", INT64_MAX},
                                                   {"-9223372036854775808", INT64_MIN},
                                                   {"9223372036G", 9'223'372'036'000'000'000}};
  for (const auto& [text, value] : legal) EXPECT_EQ(parse_integer(text, "--n"), value) << text;
}

TEST(NumbersTest, WhatIsNoInteger) {
  for (const char* text : {"",
                           " ",
                           "k",
                           "-",
                           "-k",
                           "_",
                           "12x",
                           "x12",
                           "1e",
                           "1e3",
                           "0x10",
                           "1.0",
                           "1.",
                           "+5",
                           "--5",
                           "5 k",
                           "1 000",
                           "1,000",
                           "12kk",
                           "12K",
                           "12m",
                           "1__0",
                           "_1",
                           "1_",
                           "1_k",
                           "-_1",
                           "1_x",
                           "1-2",
                           "nan",
                           "inf",
                           "true",
                           "\xC2\xA0"
                           "1",
                           "１"})
    EXPECT_EQ(refusal(ExitCode::usage, [&] { parse_integer(text, "--n"); }),
              fmt::format("--n: '{}' is not a whole number", text));
}

TEST(NumbersTest, IntegersBeyond64Bits) {
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "9223372037G", "-9223372037G",
                           "99999999999999999999", "9223372036854776k"})
    EXPECT_EQ(refusal(ExitCode::usage, [&] { parse_integer(text, "--n"); }),
              fmt::format("--n: {} does not fit 64 bits", text));
}

TEST(NumbersTest, Numbers) {
  const std::pair<const char*, double> legal[] = {
      {"0", 0.0},     {"-1.5", -1.5}, {"1e-3", 1e-3}, {"1E5", 1e5},
      {" 2.5 ", 2.5}, {".5", 0.5},    {"5.", 5.0},    {"1.7976931348623157e308", 1.7976931348623157e308}};
  for (const auto& [text, value] : legal) EXPECT_EQ(parse_number(text, "--lr"), value) << text;
}

TEST(NumbersTest, WhatIsNoNumber) {
  for (const char* text : {"",   " ",   "-",   ".",   "12x", "1e",   "1e+",      "0x10",  "1,5", "1..5",
                           "+1", "1 5", "nan", "NaN", "inf", "-inf", "infinity", "1e999", "1k",  "one"})
    EXPECT_EQ(refusal(ExitCode::usage, [&] { parse_number(text, "--lr"); }),
              fmt::format("--lr: '{}' is not a finite number", text));
}

TEST(NumbersTest, Flags) {
  for (const char* text : {"true", "yes", "on", "1", " true "}) EXPECT_TRUE(parse_flag(text, "--f")) << text;
  for (const char* text : {"false", "no", "off", "0"}) EXPECT_FALSE(parse_flag(text, "--f")) << text;
  for (const char* text : {"", "True", "2", "y", "truee", "nope"})
    EXPECT_EQ(refusal(ExitCode::usage, [&] { parse_flag(text, "--f"); }),
              fmt::format("--f: '{}' is neither true nor false", text));
}

TEST(NumbersTest, TextOfANumberReadsBackTheSame) {
  for (const double value : {0.1, 1.0 / 3.0, 1e-300, 5e-324, -1e22, 123456789.0, 0x1.fffffffffffffp+1023}) {
    const std::string text = number_text(value);
    // A subnormal is read too: std::from_chars rounds it as it should.
    EXPECT_EQ(parse_number(text, "--x"), value) << text;
  }
  EXPECT_EQ(number_text(0.001), "0.001");
  EXPECT_EQ(number_text(10.0), "10");
}

}  // namespace
}  // namespace dm
