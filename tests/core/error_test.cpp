// The text of every kind of message, and which exit code an errno becomes.

#include "core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "core/process.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;
using testing::HasSubstr;
using testing::StartsWith;

Error thrown(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  throw std::logic_error("nothing was thrown");
}

TEST(ErrorTest, FailCarriesCodeMessageAndPlace) {
  const int line = __LINE__ + 1;
  const Error error = thrown([] { DM_FAIL(ExitCode::bad_data, "{}: {} tokens", "a.h5", 3); });
  EXPECT_EQ(error.code(), ExitCode::bad_data);
  EXPECT_STREQ(error.what(), "a.h5: 3 tokens");
  EXPECT_STREQ(error.file(), "tests/core/error_test.cpp");
  EXPECT_EQ(error.line(), line);
  EXPECT_STREQ(error.expression(), "");
}

TEST(ErrorTest, RequireThrowsOnlyWhenTheConditionFails) {
  int evaluated = 0;
  EXPECT_NO_THROW(DM_REQUIRE(++evaluated == 1, ExitCode::usage, "not reached"));
  EXPECT_EQ(evaluated, 1);
  const Error error = thrown([] { DM_REQUIRE(1 + 1 == 3, ExitCode::usage, "sum {}", 2); });
  EXPECT_EQ(error.code(), ExitCode::usage);
  EXPECT_STREQ(error.expression(), "1 + 1 == 3");
  EXPECT_STREQ(error.what(), "sum 2");
}

TEST(ErrorTest, CheckIsInternal) {
  EXPECT_EQ(thrown([] { DM_CHECK(false, "rows {}", 0); }).code(), ExitCode::internal);
}

TEST(ErrorTest, AConditionThatIsNanFails) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(DM_CHECK(nan < 1.0, "{}", nan), Error);
}

TEST(ErrorTest, DescribeOfAUsersErrorIsItsMessageAlone) {
  const Error error =
      thrown([] { DM_REQUIRE(false, ExitCode::usage, "--lr: '12x' is not a finite number"); });
  EXPECT_EQ(describe(error), "diffmamba: --lr: '12x' is not a finite number");
}

TEST(ErrorTest, DescribeOfAnInternalErrorAddsCheckPlaceRankAndHost) {
  const int line = __LINE__ + 1;
  const Error error = thrown([] { DM_CHECK(2 < 1, "order {}", 7); });
  EXPECT_EQ(
      describe(error),
      fmt::format("diffmamba: order 7\n  check: 2 < 1\n  at tests/core/error_test.cpp:{}, rank 0 of 1 on {}",
                  line, process_identity().host));
}

TEST(ErrorTest, DescribeLeavesOutACheckThatIsNone) {
  const Error error = thrown([] { DM_FAIL(ExitCode::internal, "unreachable"); });
  EXPECT_THAT(describe(error), StartsWith("diffmamba: unreachable\n  at tests/core/error_test.cpp:"));
}

struct ErrnoCase {
  int number;
  ExitCode code;
  const char* text;
};

TEST(ErrorTest, ErrnoBecomesACodeAReasonAndARemedy) {
  const ErrnoCase cases[] = {
      {ENOSPC, ExitCode::io, "No space left on device; free space there or choose another directory"},
      {EDQUOT, ExitCode::io,
       "Disk quota exceeded; your quota is used up: free space or choose another directory"},
      {EROFS, ExitCode::permission,
       "Read-only file system; the file system is read-only: choose another directory"},
      {EACCES, ExitCode::permission,
       "Permission denied; check its owner and mode, or choose another directory"},
      {EPERM, ExitCode::permission,
       "Operation not permitted; check its owner and mode, or choose another directory"},
      {EMFILE, ExitCode::io, "Too many open files; raise the limit on open files (ulimit -n)"},
      {EFBIG, ExitCode::io, "File too large; raise the limit on file sizes (ulimit -f)"},
      {EIO, ExitCode::io, "Input/output error; the device reports an error: check it before you go on"},
      {ENOENT, ExitCode::io, "No such file or directory"},
  };
  for (const ErrnoCase& c : cases)
    EXPECT_EQ(refusal(c.code, [&] { throw_errno(c.number, "write", "/x/y", __FILE__, __LINE__); }),
              fmt::format("/x/y: write: {}", c.text));
}

TEST(ErrorTest, SysTakesErrnoOfTheCall) {
  EXPECT_NO_THROW(DM_SYS(0, "nothing", "/"));
  const Error error = thrown([] { DM_SYS(::close(-1), "close", "/some/file"); });
  EXPECT_STREQ(error.what(), "/some/file: close: Bad file descriptor");
  EXPECT_STREQ(error.file(), "tests/core/error_test.cpp");
}

TEST(ErrorTest, RelativeSourceLeavesForeignPathsAlone) {
  EXPECT_STREQ(detail::relative_source("/usr/include/vector"), "/usr/include/vector");
  EXPECT_STREQ(detail::relative_source(__FILE__), "tests/core/error_test.cpp");
}

TEST(ErrorTest, EveryExitCodeHasAMeaningOfItsOwn) {
  std::set<std::string> meanings;
  std::set<int> codes;
  for (const ExitCode code : kAllExitCodes) {
    EXPECT_STRNE(meaning(code), "unknown");
    meanings.insert(meaning(code));
    codes.insert(static_cast<int>(code));
  }
  EXPECT_EQ(meanings.size(), std::size(kAllExitCodes));
  EXPECT_EQ(codes, (std::set<int>{0, 64, 65, 70, 71, 73, 74, 75, 77, 78, 130}));
}

}  // namespace
}  // namespace dm
