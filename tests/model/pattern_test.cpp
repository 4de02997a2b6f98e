#include <gmock/gmock.h>

#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

using testing::HasSubstr;

std::string letters(const std::string& pattern, int64_t layers = 0) {
  ModelConfig config;
  config.pattern = pattern;
  config.layers = layers;
  return layer_letters(config);
}

std::string refusal(const std::string& pattern, int64_t layers = 0) {
  return test::refusal(ExitCode::usage, [&] { letters(pattern, layers); });
}

TEST(Pattern, LettersRepeatsAndGroups) {
  EXPECT_EQ(letters("DMSF"), "DMSF");
  EXPECT_EQ(letters("M*3 D*2"), "MMMDD");
  EXPECT_EQ(letters("(DDF)*2"), "DDFDDF");
  EXPECT_EQ(letters("M (D*2 (SF)*2)*2 F"), "MDDSFSFDDSFSFF");
  EXPECT_EQ(letters("  D * 2  "), "DD");
  EXPECT_EQ(letters("M*36 D*12"), std::string(36, 'M') + std::string(12, 'D'));
  EXPECT_EQ(letters("D*4096").size(), 4096u);
}

TEST(Pattern, NamedPatterns) {
  EXPECT_EQ(letters("all", 3), "DDD");
  EXPECT_EQ(letters("alternate", 5), "DMDMD");  // even layers are differential
  EXPECT_THAT(refusal("all"), HasSubstr("say how many, 1 to 4096"));
  EXPECT_THAT(refusal("alternate", 5000), HasSubstr("say how many"));
}

TEST(Pattern, LayersMustAgree) {
  EXPECT_EQ(letters("(DDF)*2", 6), "DDFDDF");
  EXPECT_THAT(refusal("(DDF)*2", 5), HasSubstr("--layers 5 contradicts --pattern \"(DDF)*2\", which has 6"));
}

TEST(Pattern, RefusalsNameColumnAndReason) {
  const std::pair<const char*, std::vector<const char*>> cases[] = {
      {"", {"column 1", "no layer"}},
      {"   ", {"no layer"}},
      {"MXD", {"column 2", "'X' is no layer letter", "M (plain mixer)", "F (feed-forward)"}},
      {"md", {"column 1", "'m' is no layer letter"}},
      {"D*", {"column 3", "needs a number"}},
      {"D*-2", {"column 3", "needs a number"}},
      {"D*0", {"column 3", "a repeat of 0"}},
      {"*3", {"column 1", "repeats nothing"}},
      {"D**2", {"column 3", "needs a number"}},
      {"D*2*2", {"column 4", "repeats nothing"}},
      {"(DM", {"column 1", "never closed"}},
      {"DM)", {"column 3", "closes nothing"}},
      {"D()", {"column 2", "nothing between"}},
      {"D*1.5", {"'.' is no layer letter"}},
      {"D*4097", {"more than 4096 layers"}},
      {"D*99999999999999999999999999", {"more than 4096 layers"}},
      {"((((D*4096)*4096)*4096)*4096)", {"more than 4096 layers"}},  // refused before it is written out
  };
  for (const auto& [pattern, parts] : cases)
    for (const char* part : parts) EXPECT_THAT(refusal(pattern), HasSubstr(part)) << pattern;
  EXPECT_THAT(refusal(std::string(100000, '(')), HasSubstr("parentheses more than 16 deep"));
}

}  // namespace
}  // namespace dm::model
