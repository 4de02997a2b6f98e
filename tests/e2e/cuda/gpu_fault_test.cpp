// An error of the GPU's in the middle of a run.

#include <fmt/core.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>

#include "kernels/device/device.h"
#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> checkpoints(const std::string& run_dir) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/checkpoints"))
    if (const std::string name = entry.path().filename(); name.starts_with("step_")) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

TEST(GpuFault, EndsTheRunWith71AndWritesNoCheckpoint) {
  const TemporaryFolder folder;
  prepare_sample(folder.path());
  const std::vector<std::string> words =
      train_words(folder.path(), "run", 30, {"--device", "cuda", "--save-every", "5"});
  // Six rows are three micro-steps, of which each step launches the graph; the fourteenth step fails.
  const Outcome failed = run(words, {{"LD_PRELOAD", DM_TEST_GPU_FAULT}, {"DM_TEST_FAILING_LAUNCH", "39"}});
  EXPECT_EQ(failed.exit_code, 71) << failed.err;
  EXPECT_THAT(failed.err, HasSubstr("the GPU failed"));
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre("step_000000005", "step_000000010"));

  const Outcome resumed = run(words);
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(checkpoints(folder / "run"), testing::Contains("step_000000030"));
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
