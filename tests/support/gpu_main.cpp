// main() of the tests of whole models on a GPU: exit code 77, "skipped", where there is none.

#include <gtest/gtest.h>

#include <cstdio>

#include "kernels/device/device.h"
#include "kernels/device/gpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (dm::kernels::cuda_devices().empty()) {
    std::printf("skipped: %s\n", dm::kernels::cuda_status().c_str());
    return 77;
  }
  dm::kernels::use_gpu(0);
  const int failed = RUN_ALL_TESTS();
  return failed != 0 || testing::UnitTest::GetInstance()->test_to_run_count() == 0 ? 1 : 0;
}
