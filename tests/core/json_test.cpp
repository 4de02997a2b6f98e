// Strict JSON: what is refused, and that refusing is cheap.

#include "core/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;
using testing::HasSubstr;
using testing::StartsWith;

std::string refused(const std::string& text) {
  return refusal(ExitCode::bad_data, [&] { parse_json(text, "m.json"); });
}

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(JsonTest, WhatIsLegal) {
  const Json json =
      parse_json(R"( {"a": [1, -2.5, true, null, "\u00fc\n"], "b": {"a": 18446744073709551615}} )", "m.json");
  EXPECT_EQ(json["a"][0], 1);
  EXPECT_EQ(json["a"][4], "ü\n");
  EXPECT_EQ(json["b"]["a"], UINT64_MAX);
  EXPECT_EQ(parse_json("3", "m.json"), 3);
}

TEST(JsonTest, WhatIsNoJson) {
  for (const char* text :
       {"",          " ",           "{",       "[1, 2",       "[1 2]", "{\"a\" 1}", "{\"a\": }",
        "{a: 1}",    "{\"a\": 1,}", "[1,]",    "'a'",         "nul",   "NaN",       "[Infinity]",
        "-",         "01",          "+1",      "1.",          ".5",    "0x10",      "// c\n1",
        "/* c */ 1", "\"\t\"",      "\"\\x\"", "\"\\ud800\"", "{} {}", "[1] x",     "1 2"})
    EXPECT_THAT(refused(text), StartsWith("m.json: not valid JSON: ")) << text;
  EXPECT_EQ(refused(std::string("{}\0hidden", 9)), "m.json: not valid JSON: byte 2 is zero");
}

TEST(JsonTest, ThePlaceIsNamed) {
  EXPECT_THAT(refused("{\n  \"a\": 1,\n  oops\n}"), HasSubstr("line 3, column 3"));
}

TEST(JsonTest, NumbersBeyondADouble) {
  for (const char* text : {"1e999", "-1e999", "[1e309]"})
    EXPECT_THAT(refused(text), HasSubstr("number overflow"));
  EXPECT_EQ(parse_json("1.7976931348623157e308", "m.json").get<double>(), 1.7976931348623157e308);
}

TEST(JsonTest, InvalidUtf8) {
  for (const char* text :
       {"\"\xC3\"", "\"\xC3", "\"\xFF\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "{\"\xE2\x82\": 1}"})
    EXPECT_THAT(refused(text), HasSubstr("UTF-8")) << text;
}

TEST(JsonTest, DuplicateKeys) {
  EXPECT_EQ(refused(R"({"a": 1, "b": 2, "a": 3})"), "m.json: key 'a' stands twice");
  EXPECT_EQ(refused(R"([{"x": {"k": 1, "k": 1}}])"), "m.json: key 'k' stands twice");
  EXPECT_EQ(refused(R"({"a": {}, "\u0061": 1})"), "m.json: key 'a' stands twice");
  EXPECT_NO_THROW(parse_json(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "m.json"));
}

TEST(JsonTest, Depth) {
  EXPECT_NO_THROW(parse_json(nested(64), "m.json"));
  EXPECT_EQ(refused(nested(65)), "m.json: nested deeper than 64");
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  EXPECT_EQ(refused(objects), "m.json: nested deeper than 64");
}

// A million brackets: refused at the 65th, so the stack does not matter and neither does the rest of the
// text.
TEST(JsonTest, DepthBombs) {
  EXPECT_EQ(refused(std::string(1'000'000, '[')), "m.json: nested deeper than 64");
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(refused(objects), "m.json: nested deeper than 64");
}

TEST(JsonTest, MessagesStayShort) {
  EXPECT_LT(refused("\"" + std::string(1'000'000, 'x')).size(), 300u);
  EXPECT_LT(refused(std::string(1'000'000, '1') + "e999999999").size(), 300u);
}

TEST(JsonTest, RequiredMembers) {
  const Json json = parse_json(
      R"({"text": "t", "whole": 7, "big": 9223372036854775808, "half": 0.5, "flag": true, "list": [1]})",
      "m.json");
  EXPECT_EQ(required<std::string>(json, "text", "m.json"), "t");
  EXPECT_EQ(required<int64_t>(json, "whole", "m.json"), 7);
  EXPECT_EQ(required<double>(json, "half", "m.json"), 0.5);
  EXPECT_EQ(required<double>(json, "whole", "m.json"), 7.0);
  EXPECT_EQ(required<bool>(json, "flag", "m.json"), true);
  EXPECT_EQ(required<Json>(json, "list", "m.json"), Json::array({1}));

  const auto message = [&](auto type, const char* key) {
    return refusal(ExitCode::bad_data, [&] { required<decltype(type)>(json, key, "m.json"); });
  };
  EXPECT_EQ(message(int64_t{}, "absent"), "m.json: 'absent' is missing");
  EXPECT_EQ(message(std::string{}, "whole"), "m.json: 'whole' is not text");
  EXPECT_EQ(message(int64_t{}, "half"), "m.json: 'half' is not a whole number of 64 bits");
  EXPECT_EQ(message(int64_t{}, "big"), "m.json: 'big' is not a whole number of 64 bits");
  EXPECT_EQ(message(int64_t{}, "flag"), "m.json: 'flag' is not a whole number of 64 bits");
  EXPECT_EQ(message(double{}, "text"), "m.json: 'text' is not a number");
  EXPECT_EQ(message(bool{}, "whole"), "m.json: 'whole' is not true or false");
  EXPECT_EQ(refusal(ExitCode::bad_data, [] { required<bool>(Json::array(), "flag", "m.json"); }),
            "m.json: 'flag' is missing");
}

}  // namespace
}  // namespace dm
