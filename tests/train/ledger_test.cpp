// The ledger's lines, and cutting logs back to a step.

#include "train/ledger.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "tests/support/process.h"

namespace dm::train {
namespace {

using testing::HasSubstr;

LedgerLine line(int64_t step, double loss = 1) {
  return {step, loss, 0x1234, {7, static_cast<uint64_t>(step)}};
}

std::vector<LedgerLine> lines(int64_t first, int64_t last, double loss = 1) {
  std::vector<LedgerLine> result;
  for (int64_t step = first; step <= last; ++step) result.push_back(line(step, loss));
  return result;
}

std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::optional<int64_t> number_at_start(std::string_view text) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  return std::stoll(std::string(text));
}

TEST(LedgerLine, TextIsPinnedAndReadsBack) {
  const LedgerLine l{12, 3.0, 0xabc, {1, 2}};
  EXPECT_EQ(l.text(), "12 4008000000000000 0000000000000abc 00000000000000010000000000000002");
  EXPECT_EQ(parse_ledger_line(l.text(), "test").text(), l.text());
  const LedgerLine nan = line(1, NAN);
  EXPECT_EQ(parse_ledger_line(nan.text(), "test").text(), nan.text());
}

TEST(LedgerLine, AnythingElseIsRefused) {
  const std::string good = line(5).text();
  for (const std::string& bad : {std::string(), good.substr(1), good + " ", good.substr(0, good.size() - 1),
                                 "-" + good, "x" + good, "99999999999999999999" + good, good + " 1"})
    EXPECT_THROW(parse_ledger_line(bad, "test"), Error) << "'" << bad << "'";
}

TEST(Ledger, DifferencesAreFoundByBits) {
  EXPECT_FALSE(first_difference(lines(1, 5, NAN), lines(1, 5, NAN)));
  EXPECT_THAT(first_difference(lines(1, 5, 0.0), lines(1, 5, -0.0)).value_or(""), HasSubstr("line 1"));
  EXPECT_THAT(first_difference(lines(1, 5), lines(1, 4)).value_or(""),
              HasSubstr("expected 5 lines, found 4"));
  auto other = lines(1, 5);
  other[3].state.low ^= 1;
  EXPECT_THAT(first_difference(lines(1, 5), other).value_or(""), HasSubstr("line 4"));
  EXPECT_FALSE(first_difference(lines(1, 5), other, /*samples_only=*/true));
  other[4].samples ^= 1;
  EXPECT_THAT(first_difference(lines(1, 5), other, true).value_or(""), HasSubstr("line 5"));
}

TEST(Ledger, StitchingPrefersTheLaterAttemptAndSeesHoles) {
  const auto stitched = stitch({lines(1, 7, 1), lines(4, 6, 2), {}, lines(7, 9, 3)});
  ASSERT_EQ(stitched.size(), 9u);
  EXPECT_EQ(stitched[2].loss, 1);
  EXPECT_EQ(stitched[3].loss, 2);
  EXPECT_EQ(stitched[6].loss, 3);
  for (size_t i = 0; i < stitched.size(); ++i) EXPECT_EQ(stitched[i].step, static_cast<int64_t>(i) + 1);
  EXPECT_THROW(stitch({lines(1, 3), lines(5, 6)}), Error);
}

TEST(Ledger, FileWithAHoleOrAHalfLineIsRefused) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "ledger";
  write(path, line(3).text() + "\n" + line(4).text() + "\n");
  EXPECT_EQ(read_ledger(path).size(), 2u);
  write(path, line(3).text() + "\n" + line(5).text() + "\n");
  EXPECT_THROW(read_ledger(path), Error);
  write(path, line(3).text() + "\n" + line(4).text());
  EXPECT_THROW(read_ledger(path), Error);
  EXPECT_THROW(read_ledger(folder / "absent"), Error);
}

TEST(StepLog, IsCutAtTheFirstLineThatDoesNotBelong) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "log";
  const auto cut = [&](const std::string& before, int64_t last_step) {
    write(path, before);
    StepLog(path, number_at_start, last_step);
    return content(path);
  };
  EXPECT_EQ(cut("1 a\n2 b\n2 c\n3 d\n", 2), "1 a\n2 b\n2 c\n");
  EXPECT_EQ(cut("1 a\n2 b\n", 5), "1 a\n2 b\n");
  EXPECT_EQ(cut("1 a\n2 b\n", 0), "");
  EXPECT_EQ(cut("1 a\nnoise\n2 b\n", 5), "1 a\n");
  EXPECT_EQ(cut("1 a\n2 b", 5), "1 a\n");  // a process was killed inside a write
  EXPECT_EQ(cut("", 5), "");
}

TEST(StepLog, GrowsByWholeLinesAndFindsItsEndAgain) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "log";
  {
    StepLog log(path, number_at_start, 0);
    log.append("1 a");
    EXPECT_EQ(content(path), "1 a\n");  // with the operating system at once
    log.append("2 b");
  }
  StepLog(path, number_at_start, 1).append("2 again");
  EXPECT_EQ(content(path), "1 a\n2 again\n");
}

TEST(StepLog, FullDiskLosesWholeLinesAndNothingElse) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "log";
  StepLog log(path, number_at_start, 0);
  log.append("1 a");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit tiny{6, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tiny), 0);
  log.append("2 too long for six bytes");  // the first two bytes of it would still fit
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(content(path), "1 a\n");
  log.append("3 c");
  EXPECT_EQ(content(path), "1 a\n3 c\n");
}

}  // namespace
}  // namespace dm::train
