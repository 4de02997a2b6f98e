#pragma once
// How fast ssd() is on this machine, forward and backward, beside the two forms that anyone would write
// through LibTorch and its autograd: the chunked form in batched matrix products, and the step loop.
// `diffmamba bench` prints it.

#include <cstdint>

#include "core/fields.h"
#include "core/json.h"

namespace dm::kernels {

struct ScanBenchConfig {
  int64_t batch = 2;
  int64_t length = 2048;
  int64_t heads = 16;
  int64_t head_dim = 32;
  int64_t groups = 2;
  int64_t d_state = 64;
  int64_t repetitions = 20;
  int64_t threads = 1;  // for all three; not an option here: the program has one for all benchmarks

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("scan_batch", self.batch, "rows", Range{1, 1e6});
    v("scan_length", self.length, "tokens a row", Range{1, 1e9});
    v("scan_heads", self.heads, "heads of all branches together", Range{1, 1e6});
    v("scan_head_dim", self.head_dim, "channels of a head", Range{1, 4096});
    v("scan_groups", self.groups, "B/C groups of all branches together", Range{1, 4096});
    v("scan_d_state", self.d_state, "state size of a head", Range{1, 4096});
    v("scan_repetitions", self.repetitions,
      "runs of ours and of the chunked form, in turn; the step loop is run a quarter as often, at least 3 "
      "times",
      Range{1, 1e6});
  }
};

struct Timing {
  double median_ms = 0, p10_ms = 0, p90_ms = 0;
};

struct ScanBenchResult {
  Timing ours;          // forward and backward, float32
  Timing ours_forward;  // forward alone, without autograd
  Timing chunked;       // forward and backward, at the chunk length that is fastest here
  Timing step_loop;     // forward and backward
  int64_t chunk = 0;    // that of the chunked form: the best of 32, 64, 128 and 256
  double speedup = 0;   // median of the faster peer / median of ours
  double difference =
      0;  // largest relative difference between ours and the chunked form, over y and all gradients

  Json json() const;
};

/// Checks that the three agree (throws Error otherwise), then times them. Sets the thread counts of LibTorch
/// and of dm::parallel_for to `threads`, and leaves them so.
ScanBenchResult bench_scan(const ScanBenchConfig& config);

}  // namespace dm::kernels
