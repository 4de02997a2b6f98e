// One table of options: every way in (command line, INI, JSON) sets the same values and refuses the same
// ones.

#include "core/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/core/sample_config.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;
using test::SampleConfig;
using test::SpeedConfig;
using testing::AllOf;
using testing::HasSubstr;

class FieldsTest : public testing::Test {
 protected:
  FieldsTest() {
    table_.add("sample", sample_);
    table_.add("speed", speed_);
  }

  SampleConfig sample_;
  SpeedConfig speed_;
  FieldTable table_;
};

TEST_F(FieldsTest, TheTableSaysWhatEachFieldIs) {
  std::vector<std::string> names, types, defaults;
  for (const Field& field : table_.fields()) {
    names.push_back(field.section + "." + field.name);
    types.push_back(field.type);
    defaults.push_back(field.default_text);
    EXPECT_FALSE(field.help.empty());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"sample.packed", "sample.d_model", "sample.lr", "sample.order",
                                             "sample.note", "sample.layers", "speed.threads"}));
  EXPECT_EQ(types,
            (std::vector<std::string>{"flag", "integer", "number", "text", "text", "list", "integer"}));
  EXPECT_EQ(defaults, (std::vector<std::string>{"true", "64", "0.001", "shuffled", "", "head,lambda", "0"}));
  EXPECT_EQ(table_.find("threads")->affects, Affects::speed);
  EXPECT_EQ(table_.find("lr")->affects, Affects::result);
}

TEST_F(FieldsTest, NamesAreFoundInEverySpelling) {
  for (const char* name :
       {"d_model", "d-model", "--d-model", "--d_model", "sample.d_model", "sample.d-model"}) {
    ASSERT_NE(table_.find(name), nullptr) << name;
    EXPECT_EQ(table_.find(name)->name, "d_model");
  }
  for (const char* name : {"", "-", "--", "D_model", "d_mode", "speed.d_model", ".d_model", "sample."})
    EXPECT_EQ(table_.find(name), nullptr) << name;
}

TEST_F(FieldsTest, SetsEveryType) {
  table_.set("packed", "no", "--packed");
  table_.set("d-model", "1k", "--d-model");
  table_.set("lr", "3e-4", "--lr");
  table_.set("order", "streams", "--order");
  table_.set("note", " kept as it is ", "--note");
  table_.set("layers", "gate, head", "--layers");
  EXPECT_FALSE(sample_.packed);
  EXPECT_EQ(sample_.d_model, 1000);
  EXPECT_EQ(sample_.lr, 3e-4);
  EXPECT_EQ(sample_.order, "streams");
  EXPECT_EQ(sample_.note, " kept as it is ");
  EXPECT_EQ(sample_.layers, (std::vector<std::string>{"gate", "head"}));
  table_.set("layers", "", "--layers");
  EXPECT_TRUE(sample_.layers.empty());
}

struct Refused {
  const char* name;
  const char* value;
  const char* message;
};

const Refused kRefused[] = {
    {"packed", "maybe", "--packed: 'maybe' is neither true nor false"},
    {"d_model", "12x", "--d-model: '12x' is not a whole number"},
    {"d_model", "0", "--d-model: 0 is outside 1 .. 1048576"},
    {"d_model", "1048577", "--d-model: 1048577 is outside 1 .. 1048576"},
    {"threads", "-1", "--threads: -1 is below 0"},
    {"lr", "nan", "--lr: 'nan' is not a finite number"},
    {"lr", "-1e-9", "--lr: -1e-09 is outside 0 .. 10"},
    {"order", "shufled", "--order: 'shufled' is not one of shuffled, streams"},
    {"order", "", "--order: '' is not one of shuffled, streams"},
    {"order", "streams ", "--order: 'streams ' is not one of shuffled, streams"},
    {"layers", "head,tail", "--layers: 'tail' is not one of head, lambda, gate"},
    {"layers", "head,,gate", "--layers: an item of the list is empty"},
    {"layers", "head,", "--layers: an item of the list is empty"},
};

TEST_F(FieldsTest, ARefusedValueIsNamedAndLeavesTheFieldAsItWas) {
  const nlohmann::json before = table_.to_json();
  for (const Refused& r : kRefused) {
    const std::string option = table_.find(r.name)->option();
    EXPECT_EQ(refusal(ExitCode::usage, [&] { table_.set(r.name, r.value, option); }), r.message);
    EXPECT_EQ(refusal(ExitCode::usage, [&] { table_.set(r.name, r.value, "run.ini:3"); }),
              fmt::format("run.ini:3: {}", r.message));
    EXPECT_EQ(table_.to_json(), before) << r.name;
  }
}

TEST_F(FieldsTest, ARefusedValueLeavesEvenWhatTextCannotSpell) {
  sample_.layers = {"head,lambda", ""};  // as code may set it
  EXPECT_THROW(table_.set("layers", "tail", "--layers"), Error);
  EXPECT_EQ(sample_.layers, (std::vector<std::string>{"head,lambda", ""}));
  sample_.lr = std::numeric_limits<double>::infinity();
  EXPECT_THROW(table_.set("lr", "11", "--lr"), Error);
  EXPECT_EQ(sample_.lr, std::numeric_limits<double>::infinity());
}

TEST_F(FieldsTest, LargeIntegersAreNamedDigitByDigit) {
  EXPECT_EQ(refusal(ExitCode::usage, [&] { table_.set("threads", "-9007199254740993", "--threads"); }),
            "--threads: -9007199254740993 is below 0");
}

TEST_F(FieldsTest, UnknownNamesGetTheNearest) {
  // One edit, two (a swap of neighbours is one), three.
  const std::pair<const char*, const char*> near[] = {
      {"d_modle", "d_model"}, {"dmodel", "d_model"},  {"--d-moddel", "d_model"},
      {"paked", "packed"},    {"lrr", "lr"},          {"odrer", "order"},
      {"tread", "threads"},   {"htraeds", "threads"}, {"thrd", "threads"}};
  for (const auto& [wrong, right] : near)
    EXPECT_EQ(refusal(ExitCode::usage, [&] { table_.set(wrong, "1", "--x"); }),
              fmt::format("--x: unknown option '{}'; did you mean '{}'?", wrong, right));
  for (const char* far : {"zzzzzzzz", "", "optimizer", "thrxyzq"})
    EXPECT_EQ(refusal(ExitCode::usage, [&] { table_.set(far, "1", "--x"); }),
              fmt::format("--x: unknown option '{}'; --help lists them all", far));
}

struct Twin {
  int64_t d_model = 1;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("d_model", self.d_model, "the same name in another section");
  }
};

TEST_F(FieldsTest, ANameTwiceIsABug) {
  Twin twin;
  EXPECT_EQ(refusal(ExitCode::internal, [&] { table_.add("other", twin); }),
            "option d_model is defined twice");
}

struct IllegalDefault {
  int64_t rows = 0;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("rows", self.rows, "rows", Range{1, 8});
  }
};

TEST_F(FieldsTest, ADefaultThatWouldBeRefusedIsABug) {
  IllegalDefault config;
  EXPECT_EQ(refusal(ExitCode::internal, [&] { table_.add("other", config); }), "--rows: 0 is outside 1 .. 8");
}

TEST_F(FieldsTest, JsonRoundTrip) {
  table_.set("lr", "0.1", "--lr");
  table_.set("note", "tab\there, \"quotes\" and ünïcode", "--note");
  const nlohmann::json json = table_.to_json();
  EXPECT_EQ(json["sample"]["d_model"], 64);
  EXPECT_EQ(json["sample"]["layers"], (std::vector<std::string>{"head", "lambda"}));

  SampleConfig sample;
  SpeedConfig speed;
  FieldTable other;
  other.add("sample", sample);
  other.add("speed", speed);
  other.read_json(nlohmann::json::parse(json.dump()), "manifest.json");
  EXPECT_EQ(other.to_json(), json);
  EXPECT_EQ(sample.lr, 0.1);
  EXPECT_EQ(sample.note, sample_.note);
}

struct WrongJson {
  const char* patch;  // merged into the right one; null removes
  const char* message;
};

const WrongJson kWrongJson[] = {
    {R"({"sample": {"packed": 1}})", "packed: expected true or false"},
    {R"({"sample": {"d_model": 1.5}})", "d_model: expected a whole number"},
    {R"({"sample": {"d_model": "64"}})", "d_model: expected a whole number"},
    {R"({"sample": {"d_model": 18446744073709551615}})", "d_model: does not fit 64 bits"},
    {R"({"sample": {"d_model": 0}})", "--d-model: 0 is outside 1 .. 1048576"},
    {R"({"sample": {"lr": "1"}})", "lr: expected a number"},
    {R"({"sample": {"lr": 11}})", "--lr: 11 is outside 0 .. 10"},
    {R"({"sample": {"order": 1}})", "order: expected text"},
    {R"({"sample": {"order": "other"}})", "--order: 'other' is not one of shuffled, streams"},
    {R"({"sample": {"layers": "head"}})", "layers: expected a list of texts"},
    {R"({"sample": {"layers": ["head", 1]}})", "layers: expected a list of texts"},
    {R"({"sample": {"d_model": null}})", "field 'sample.d_model' is missing"},
    {R"({"speed": null})", "field 'speed.threads' is missing"},
    {R"({"sample": {"d_states": 1}})", "unknown field 'sample.d_states'; it was written by another version"},
    {R"({"speed": {"lr": 1}})", "unknown field 'speed.lr'; it was written by another version"},
    {R"({"sample": 3})", "section 'sample' is not an object"},
    {R"({"extra": {"lr": 1}})", "unknown field 'extra.lr'; it was written by another version"},
};

TEST_F(FieldsTest, JsonThatDoesNotFitIsRefused) {
  for (const WrongJson& wrong : kWrongJson) {
    nlohmann::json json = table_.to_json();
    json.merge_patch(nlohmann::json::parse(wrong.patch));
    EXPECT_EQ(refusal(ExitCode::bad_data, [&] { table_.read_json(json, "manifest.json"); }),
              fmt::format("manifest.json: {}", wrong.message));
  }
  EXPECT_EQ(refusal(ExitCode::bad_data, [&] { table_.read_json(3, "manifest.json"); }),
            "manifest.json: expected an object of sections");
}

}  // namespace
}  // namespace dm
