// main() of the tests that need a GPU: exit code 77, "skipped", where there is none. With --time the program
// times its operations instead, where it has any to time.

#include "tests/support/gpu_main.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "kernels/device/device.h"
#include "kernels/device/gpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (dm::kernels::cuda_devices().empty()) {
    std::printf("skipped: %s\n", dm::kernels::cuda_status().c_str());
    return 77;
  }
  std::printf("%s\n", dm::kernels::cuda_status().c_str());
  dm::kernels::use_gpu(0);
  if (argc == 2 && std::strcmp(argv[1], "--time") == 0 && dm::test::time_operations != nullptr) {
    dm::test::time_operations();
    return 0;
  }
  const int failed = RUN_ALL_TESTS();
  return failed != 0 || testing::UnitTest::GetInstance()->test_to_run_count() == 0 ? 1 : 0;
}
