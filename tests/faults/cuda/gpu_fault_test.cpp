// Rows 60 to 62: what happens to a run when a GPU or NCCL fails in its middle. With two GPUs, or where NCCL
// lets two ranks share one (2.30 with NCCL_MULTI_RANK_GPU_ENABLE=1), of one rank of two as well.

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "kernels/device/device.h"
#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

constexpr int kLost = 71;
constexpr int kSteps = 30;
constexpr int kLaunchesAStep = 3;  // six rows, two in a micro-step, on one rank
constexpr const char* kTwoRanksNeed =
    "two ranks need two GPUs, or NCCL 2.30 with NCCL_MULTI_RANK_GPU_ENABLE=1";
// Within which all ranks must have gone.
constexpr double kOut = 10;

std::vector<std::string> checkpoints(const std::string& run_dir) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/checkpoints"))
    if (const std::string name = entry.path().filename(); name.starts_with("step_")) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class GpuFault : public testing::Test {
 protected:
  void SetUp() override { prepare_sample(folder_.path()); }

  static bool has_two_ranks() {
    return kernels::cuda_devices().size() >= 2 || std::getenv("NCCL_MULTI_RANK_GPU_ENABLE") != nullptr;
  }
  Words words(int ranks, const std::string& name, const Words& more = {}) const {
    Words all = {"--device", "cuda"};
    all.insert(all.end(), more.begin(), more.end());
    return on_ranks(ranks, train_words(folder_.path(), name, kSteps, all));
  }
  /// The run goes on from its newest checkpoint and gives the ledger of one that nothing happened to.
  void expect_exact_resume(int ranks, const std::string& name) const {
    const Outcome resumed = run(words(ranks, name));
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    const Outcome undisturbed = run(words(ranks, "undisturbed"));
    EXPECT_EQ(undisturbed.exit_code, 0) << undisturbed.err;
    const std::string ledger = read_text(folder_ / "undisturbed.ledger");
    EXPECT_FALSE(ledger.empty());
    EXPECT_EQ(read_text(folder_ / (name + ".ledger")), ledger);
  }
  /// Sends the signal to rank 1 of two once the run has done ten steps.
  std::pair<Outcome, double> hit(int signal, const Words& more) const {
    Process process(words(2, "run", more));
    while (process.running() && read_text(folder_ / "run.ledger").find("\n11 ") == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto ranks = ranks_of(folder_ / "run");
    if (ranks.size() != 2)
      throw std::runtime_error("the ranks are not to be seen:\n" + process.output_so_far());
    const auto begin = Clock::now();
    ::kill(ranks.at(1), signal);
    const Outcome outcome = process.wait();
    return {outcome, seconds_since(begin)};
  }
  std::map<std::string, std::string> with(const std::string& fault) const {
    std::string preload = DM_TEST_GPU_FAULT_LIBRARY;
    if (const char* other = std::getenv("LD_PRELOAD")) preload += std::string(":") + other;
    return {{"LD_PRELOAD", preload}, {"DM_TEST_GPU_FAULT", fault}};
  }

  TemporaryFolder folder_;
};

TEST_F(GpuFault, Row62_AnIllegalAccessEndsTheRunAndWritesNoCheckpoint) {
  // In the fourteenth step.
  const Outcome failed = run(words(1, "run"), with(fmt::format("access 0 {}", 13 * kLaunchesAStep + 1)));
  EXPECT_EQ(failed.exit_code, kLost) << failed.err;
  EXPECT_THAT(failed.err, HasSubstr("the GPU failed"));
  EXPECT_EQ(checkpoints(folder_ / "run").back(), "step_000000010");
  expect_exact_resume(1, "run");
}

TEST_F(GpuFault, Row62_AnIllegalAccessOfOneRankEndsAllAndNamesIt) {
  if (!has_two_ranks()) GTEST_SKIP() << kTwoRanksNeed;
  const auto begin = Clock::now();
  const Outcome failed = run(words(2, "run"), with("access 1 28"));
  const double seconds = seconds_since(begin);
  EXPECT_EQ(failed.exit_code, kLost) << failed.err;
  EXPECT_THAT(failed.out + failed.err, AllOf(HasSubstr("rank 1"), HasSubstr("the GPU failed")));
  const auto resumed_at = Clock::now();
  expect_exact_resume(2, "run");
  fmt::print("start and end took {:.1f} s, two whole runs {:.1f} s\n", seconds, seconds_since(resumed_at));
  EXPECT_LT(seconds, seconds_since(resumed_at) / 2 + kOut);
}

TEST_F(GpuFault, Row62_MemoryThatOthersHoldIsToldWithWhatWouldFit) {
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  constexpr size_t kLeft = size_t{768} << 20;  // a context and its libraries, and little more
  void* held = nullptr;
  ASSERT_EQ(cudaMalloc(&held, free - kLeft), cudaSuccess);
  const Outcome failed = run(words(1, "run", {"--d-model", "2048", "--length", "16384"}));
  cudaFree(held);
  EXPECT_EQ(failed.exit_code, 64) << failed.err;
  EXPECT_THAT(failed.out + failed.err, AllOf(HasSubstr("the GPU's memory ran out"),
                                             HasSubstr("predicted need"), HasSubstr("should fit")));
}

TEST_F(GpuFault, Row60_AnErrorThatNcclReportsEndsAllRanks) {
  if (!has_two_ranks()) GTEST_SKIP() << kTwoRanksNeed;
  const Outcome failed = run(words(2, "run"), with("nccl 1 28"));
  EXPECT_EQ(failed.exit_code, kLost) << failed.err;
  EXPECT_THAT(failed.out + failed.err,
              AllOf(HasSubstr("rank 1 of 2 on "), HasSubstr("NCCL"), HasSubstr("run it again")));
  expect_exact_resume(2, "run");
}

TEST_F(GpuFault, Row61_ADeadPeerEndsAllRanks) {
  if (!has_two_ranks()) GTEST_SKIP() << kTwoRanksNeed;
  const auto [outcome, seconds] = hit(SIGKILL, {});
  EXPECT_EQ(outcome.exit_code, 128 + SIGKILL) << outcome.err;
  EXPECT_LT(seconds, kOut);
  fmt::print("a rank killed: the job ended {:.1f} s later\n", seconds);
  expect_exact_resume(2, "run");
}

TEST_F(GpuFault, Row61_AStoppedPeerIsNamedAndEndsAllRanks) {
  if (!has_two_ranks()) GTEST_SKIP() << kTwoRanksNeed;
  const auto [outcome, seconds] = hit(SIGSTOP, {"--watchdog-seconds", "3"});
  EXPECT_EQ(outcome.exit_code, kLost) << outcome.err;
  EXPECT_LT(seconds, 3 + kOut);
  EXPECT_THAT(outcome.out + outcome.err,
              AllOf(HasSubstr("no sign of life for 3 s"), HasSubstr("  rank 1 (process ")));
  fmt::print("a rank stopped: the job ended {:.1f} s later\n", seconds);
  expect_exact_resume(2, "run");
}

}  // namespace
}  // namespace dm::test

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (dm::kernels::cuda_devices().empty()) {
    fmt::print("skipped: {}\n", dm::kernels::cuda_status());
    return 77;
  }
  const int failed = RUN_ALL_TESTS();
  return failed != 0 || testing::UnitTest::GetInstance()->test_to_run_count() == 0 ? 1 : 0;
}
