// main() of the tests that run under mpirun. Rank 0 prints as usual, the others print only failures; the
// verdict is a reduction that every rank reaches, and running no test is a failure.
//
// A fatal failure or an exception leaves a rank at another place than its peers, who would wait for it until
// the test's time is up: it ends the job on all ranks at once.

#include <gtest/gtest.h>

#include <cstdio>
#include <exception>

#include "core/error.h"
#include "core/log.h"
#include "tests/support/mpi_environment.h"

namespace {

dm::dist::Environment* environment = nullptr;

class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& info) override { test_ = &info; }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    if (environment->rank() != 0)
      std::fprintf(stderr, "rank %d, %s.%s: %s:%d\n%s\n", static_cast<int>(environment->rank()),
                   test_ ? test_->test_suite_name() : "", test_ ? test_->name() : "",
                   result.file_name() ? result.file_name() : "?", result.line_number(), result.message());
    if (result.fatally_failed() && environment->world() > 1) environment->abort(1);
  }
  const testing::TestInfo* test_ = nullptr;
};

int verdict(dm::dist::Environment& mpi) {
  const auto group = mpi.make_world_group();
  const int failed = RUN_ALL_TESTS();
  const bool ran = testing::UnitTest::GetInstance()->test_to_run_count() > 0;
  return group->all_agree(failed == 0 && ran) ? 0 : 1;
}

}  // namespace

namespace dm::test {
dist::Environment& mpi() { return *environment; }
}  // namespace dm::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::GTEST_FLAG(catch_exceptions) = false;
  dm::dist::Environment mpi(argc, argv);
  environment = &mpi;
  dm::set_log_terminal(mpi.rank() == 0);
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (mpi.rank() != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new FailurePrinter);
  try {
    return verdict(mpi);
  } catch (const dm::Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(mpi.rank()), describe(error).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(mpi.rank()), error.what());
  }
  mpi.abort(1);
}
