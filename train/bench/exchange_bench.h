#pragma once
// What the exchanges of a step reach between ranks when nothing else runs: gradients out, weights back, as a
// step cuts them and as one piece.

#include <cstdint>

#include "core/fields.h"
#include "core/json.h"
#include "train/groups.h"

namespace dm::train {

struct ExchangeBenchConfig {
  double exchange_mib = 1024;
  double piece_mib = 64;
  int64_t exchange_repetitions = 20;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("exchange_mib", self.exchange_mib, "MiB of float32 that are exchanged", Range{1e-3, 1e6});
    v("piece_mib", self.piece_mib, "MiB a bucket", Range{1e-3, 1e6});
    v("exchange_repetitions", self.exchange_repetitions, "exchanges timed, after two of warm-up",
      Range{1, 1e6});
  }
};

/// All ranks call it together. Bus bandwidth is what a link carries, whatever the number of ranks:
/// (ranks - 1) / ranks * bytes / time, the median over repetitions of the slowest rank.
Json bench_exchange(const ExchangeBenchConfig& config, bool on_gpu, const Groups& groups);

}  // namespace dm::train
