#pragma once
// What a save reaches, its fsyncs included, beside what the same disk takes from `dd bs=16M conv=fsync` with
// as many writers, in turn.

#include <cstdint>
#include <string>

#include "core/collectives.h"
#include "core/fields.h"
#include "core/json.h"

namespace dm::checkpoints {

struct SaveBenchConfig {
  std::string save_dir;
  double save_mib = 1024;
  double tensor_mib = 16;
  int64_t save_repetitions = 5;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("save_dir", self.save_dir,
      "folder to save in, on the disk in question; must not exist, and goes in the end");
    v("save_mib", self.save_mib, "MiB that each rank saves", Range{1, 1e7});
    v("tensor_mib", self.tensor_mib, "MiB of each of its tensors", Range{1e-3, 1e6});
    v("save_repetitions", self.save_repetitions, "saves timed, each beside a run of dd, after one of warm-up",
      Range{1, 1e6});
  }
};

/// All ranks of `group` together. GB/s over all ranks, of the slowest rank's time, medians.
Json bench_save(const SaveBenchConfig& config, Collectives& group);

}  // namespace dm::checkpoints
