// The benchmark runs and checks what it times. How fast anything is, no unit test says.

#include "kernels/bench/scan_bench.h"

#include <ATen/Parallel.h>

#include "core/parallel.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

ScanBenchConfig small() {
  ScanBenchConfig config;
  config.batch = 1;
  config.length = 256;
  config.heads = 2;
  config.head_dim = 8;
  config.groups = 1;
  config.d_state = 16;
  config.repetitions = 1;
  return config;
}

TEST(ScanBench, TimesFormsThatAgree) {
  const int64_t threads_before = threads();
  const ScanBenchResult result = bench_scan(small());
  for (const Timing& t : {result.ours, result.ours_forward, result.chunked, result.step_loop})
    EXPECT_TRUE(t.p10_ms > 0 && t.p10_ms <= t.median_ms && t.median_ms <= t.p90_ms);
  EXPECT_GT(result.speedup, 0);
  EXPECT_LE(result.difference, 1e-4);  // float32 on both sides, the chunked form with running sums in float32
  EXPECT_GT(result.difference, 0);     // they are not the same code
  set_threads(threads_before);
  at::set_num_threads(static_cast<int>(threads_before));
}

TEST(ScanBench, RefusesWhatThePeersCannotTake) {
  ScanBenchConfig config = small();
  config.length = 300;
  EXPECT_EQ(refusal([&] { bench_scan(config); }),
            "bench: length 300 is not a multiple of 256, which the chunked form needs");
  config = small();
  config.groups = 3;
  EXPECT_EQ(refusal([&] { bench_scan(config); }),
            "bench: sizes and repetitions must be positive, and the 3 groups must divide the 2 heads");
}

}  // namespace
}  // namespace dm::kernels::test
