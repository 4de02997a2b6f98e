// INI files: what is written reads back the same, and what is wrong is named with FILE:LINE.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/fields.h"
#include "tests/core/sample_config.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;
using test::SampleConfig;
using test::SpeedConfig;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class IniTest : public testing::Test {
 protected:
  IniTest() {
    table_.add("sample", sample_);
    table_.add("speed", speed_);
  }
  std::vector<std::string> read(const std::string& text) { return read_ini(table_, text, "run.ini"); }
  std::string refused(const std::string& text) {
    return refusal(ExitCode::usage, [&] { read(text); });
  }

  SampleConfig sample_;
  SpeedConfig speed_;
  FieldTable table_;
};

TEST_F(IniTest, ReadsSectionsCommentsAndBlanks) {
  EXPECT_THAT(read("# a comment\n"
                   "; another\n"
                   "\n"
                   "[sample]\r\n"
                   "  d-model=128 \r\n"
                   "lr = 3e-4\n"
                   "note = a = b # kept\n"
                   "[ speed ]\n"
                   "\tthreads\t=\t2"),
              ElementsAre("d_model", "lr", "note", "threads"));
  EXPECT_EQ(sample_.d_model, 128);
  EXPECT_EQ(sample_.lr, 3e-4);
  EXPECT_EQ(sample_.note, "a = b # kept");
  EXPECT_EQ(speed_.threads, 2);
  EXPECT_EQ(sample_.order, "shuffled");
}

TEST_F(IniTest, NothingIsLegal) {
  EXPECT_THAT(read(""), IsEmpty());
  EXPECT_THAT(read("\n\n[sample]\n"), IsEmpty());
}

TEST_F(IniTest, RoundTrip) {
  table_.set("packed", "false", "");
  table_.set("lr", "0.1", "");
  table_.set("layers", "gate", "");
  const std::string written = table_.to_ini();
  EXPECT_THAT(written, HasSubstr("[sample]\n# whether documents share a row\npacked = false\n"));
  EXPECT_THAT(written, HasSubstr("# order of samples (shuffled, streams)\norder = shuffled\n"));

  SampleConfig sample;
  SpeedConfig speed;
  FieldTable other;
  other.add("sample", sample);
  other.add("speed", speed);
  EXPECT_EQ(read_ini(other, written, "run.ini").size(), other.fields().size());
  EXPECT_EQ(other.to_json(), table_.to_json());
  EXPECT_EQ(other.to_ini(), written);
}

TEST_F(IniTest, EveryTextSurvives) {
  for (const char* text : {"", "plain", "two words", " leading", "trailing\t", "line\nbreak", "cr\rhere",
                           "\"quoted\"", "\"", "back\\slash", "\\n", "\n[speed]\nthreads = 9\n",
                           "# no comment", "[no section]", "a=b", "ünïcode", "\xff\xfe", "say \"so\""}) {
    sample_.note = text;
    const std::string written = table_.to_ini();
    sample_.note = "something else";
    speed_.threads = 0;
    read(written);
    EXPECT_EQ(sample_.note, text) << written;
    EXPECT_EQ(speed_.threads, 0);
  }
}

TEST_F(IniTest, QuotesByHand) {
  read("[sample]\nnote = \"a \\\"b\\\" \\\\ \\n \\r \\t c \"\n");
  EXPECT_EQ(sample_.note, "a \"b\" \\ \n \r \t c ");
  read("[sample]\nd_model = \"32\"\n");
  EXPECT_EQ(sample_.d_model, 32);
}

TEST_F(IniTest, WhatIsWrongIsNamedWithItsLine) {
  const std::pair<const char*, const char*> wrong[] = {
      {"[sample]\n\nd_model = 12x\n", "run.ini:3: --d-model: '12x' is not a whole number"},
      {"[sample]\nlr =\n", "run.ini:2: --lr: '' is not a finite number"},
      {"[sample]\nd_modle = 1\n", "run.ini:2: unknown option 'd_modle'; did you mean 'd_model'?"},
      {"[sample]\n = 1\n", "run.ini:2: unknown option ''; --help lists them all"},
      {"d_model = 1\n", "run.ini:1: 'd_model' belongs into section [sample]"},
      {"[speed]\nd_model = 1\n", "run.ini:2: 'd_model' belongs into section [sample]"},
      {"[sample]\nd_model = 1\n[speed]\n[sample]\nd-model = 1\n", "run.ini:5: 'd-model' is set twice"},
      {"[sample]\nd_model = 1\nsample.d_model = 1\n", "run.ini:3: 'sample.d_model' is set twice"},
      {"[smaple]\n", "run.ini:1: unknown section [smaple]"},
      {"[]\n", "run.ini:1: unknown section []"},
      {"[sample\n", "run.ini:1: '[sample' lacks its closing bracket"},
      {"[\n", "run.ini:1: '[' lacks its closing bracket"},
      {"[sample]\nd_model 64\n", "run.ini:2: expected NAME = VALUE, found 'd_model 64'"},
      {"[sample]\nnote = \"open\n", "run.ini:2: \"open lacks its closing quote"},
      {"[sample]\nnote = \"\n", "run.ini:2: \" lacks its closing quote"},
      {"[sample]\nnote = \"a\" b\n", "run.ini:2: text follows the closing quote of \"a\" b"},
      {"[sample]\nnote = \"a\\x\"\n",
       "run.ini:2: in quotes a backslash begins \\\\, \\\", \\n, \\r or \\t: \"a\\x\""},
      {"[sample]\nnote = \"a\\",
       "run.ini:2: in quotes a backslash begins \\\\, \\\", \\n, \\r or \\t: \"a\\"},
  };
  for (const auto& [text, message] : wrong) EXPECT_EQ(refused(text), message);
}

}  // namespace
}  // namespace dm
