// What is remembered of attempts that died, and what makes it forgotten.

#include "train/failures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"
#include "core/json.h"
#include "tests/support/process.h"

namespace dm::train {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class FailuresTest : public testing::Test {
 protected:
  /// One attempt that fails in `step`; the exit code that the run then ends with.
  ExitCode attempt(int64_t step, ExitCode code = ExitCode::internal, const std::string& message = "no good") {
    Failures failures(folder_.path(), /*speaks=*/false);
    const Error error(code, message, __FILE__, __LINE__);
    try {
      failures.add(step, error);
      return code;
    } catch (const Error& final) {
      text_ = final.what();
      return final.code();
    }
  }
  std::string file() const { return folder_ / "failures.json"; }

  test::TemporaryFolder folder_;
  std::string text_;
};

TEST_F(FailuresTest, ThirdInARowAtOneStepIsAnErrorOfItsOwn) {
  EXPECT_EQ(attempt(13), ExitCode::internal);
  EXPECT_EQ(attempt(13, ExitCode::lost), ExitCode::lost);
  const Json json = parse_json(test::read_text(file()), "file");
  EXPECT_EQ(json, (Json{{"step", 13}, {"times", 2}, {"exit_code", 71}, {"message", "no good"}}));
  EXPECT_EQ(attempt(13, ExitCode::internal, "the reason"), ExitCode::repeated);
  EXPECT_THAT(text_, AllOf(HasSubstr("step 13"), HasSubstr("3 times in a row"), HasSubstr("the reason"),
                           HasSubstr("exit code 70")));
  EXPECT_EQ(attempt(13), ExitCode::repeated);  // and so it stays
}

TEST_F(FailuresTest, AnotherStepCountsAnew) {
  for (const int64_t step : {13, 13, 14, 14, 13, 13}) EXPECT_EQ(attempt(step), ExitCode::internal) << step;
  EXPECT_EQ(attempt(13), ExitCode::repeated);
}

TEST_F(FailuresTest, WhatSaysNothingAboutTheStepIsNotCounted) {
  for (const ExitCode code : {ExitCode::io, ExitCode::permission, ExitCode::locked, ExitCode::interrupted,
                              ExitCode::saved, ExitCode::usage})
    EXPECT_EQ(attempt(13, code), code);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(FailuresTest, APassedStepIsForgotten) {
  EXPECT_EQ(attempt(13), ExitCode::internal);
  EXPECT_EQ(attempt(13), ExitCode::internal);
  Failures failures(folder_.path(), false);
  failures.passed(12);
  EXPECT_TRUE(std::filesystem::exists(file()));
  failures.passed(13);
  EXPECT_FALSE(std::filesystem::exists(file()));
  EXPECT_EQ(attempt(13), ExitCode::internal);
  EXPECT_EQ(attempt(13), ExitCode::internal);
}

TEST_F(FailuresTest, ErrorsOfOthersCountAsInternalWithTheirFirstLine) {
  const std::runtime_error error("CUDA error: out of room\nException raised from somewhere\n#0 0x1");
  Failures(folder_.path(), false).add(5, error);
  const Json json = parse_json(test::read_text(file()), "file");
  EXPECT_EQ(json["exit_code"], 70);
  EXPECT_EQ(json["message"], "CUDA error: out of room");
}

TEST_F(FailuresTest, DamagedFileCountsAsNone) {
  for (const char* text :
       {"", "{", "[]", "{\"step\": 13, \"times\": 2}", "{\"step\": 13, \"times\": -2, \"message\": \"\"}",
        "{\"step\": \"13\", \"times\": 2, \"message\": \"\"}"}) {
    test::write_text(file(), text);
    EXPECT_EQ(attempt(13), ExitCode::internal) << text;
    EXPECT_EQ(attempt(13), ExitCode::internal) << text;
    EXPECT_EQ(attempt(13), ExitCode::repeated) << text;
  }
}

TEST_F(FailuresTest, MessageThatIsNoTextIsKeptAllTheSame) {
  EXPECT_EQ(attempt(13, ExitCode::bad_data, "bad \xff name"), ExitCode::bad_data);
  EXPECT_THAT(test::read_text(file()), HasSubstr("bad \xef\xbf\xbd name"));
}

TEST_F(FailuresTest, FolderThatTakesNoFileLosesOnlyTheCount) {
  Failures failures(folder_ / "absent", false);
  failures.add(13, Error(ExitCode::internal, "no good", __FILE__, __LINE__));
}

}  // namespace
}  // namespace dm::train
