#pragma once
// ZeRO stage 2: of the gradients a rank keeps its own piece between the passes of a step, and of all others
// what three buckets hold.
//
// A bucket leaves when a pass has differentiated its layers; what arrives is added to the owned piece, and
// the bucket's memory is zeroed for the third bucket after it, which the pass begins to write once the next
// one is complete. At most one exchange is under way. The first bucket has memory of its own, since a tied
// head adds to the embedding at the beginning of a pass.
//
// On a GPU the exchanges run on a stream of their own that forks from the model's and joins it again inside
// the pass, and are recorded with it; that of the first bucket follows the pass.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/device/stream.h"
#include "train/flat_parameters.h"
#include "train/gradient_exchange.h"

namespace dm::train {

class ScatteredGradients final : public GradientExchange {
 public:
  /// `parameters` are scattered(); `across` is as of GradientReducer, and adds once a step. `rounds` are the
  /// passes of a step on the rank that has most. `complete(bucket)` is called in this rank's passes before a
  /// bucket leaves.
  ScatteredGradients(FlatParameters& parameters, Collectives* across, int64_t rounds,
                     std::function<void(size_t bucket)> complete);

  int64_t rounds() const override { return rounds_; }
  void pass_begins(bool last) override;
  void passed(int64_t depth) override;
  void finish() override;
  double exposed_ms() const override;
  void report(Trace& trace) const override;

 private:
  void leave(size_t bucket);
  void settle();
  void take_in(size_t bucket);
  const Bucket& bucket(size_t index) const { return parameters_.buckets()[index]; }

  FlatParameters& parameters_;
  Collectives* across_;
  int64_t rounds_;
  std::function<void(size_t)> complete_;
  bool on_gpu_;
  int64_t round_ = 0;
  bool in_pass_ = false;
  std::optional<size_t> under_way_;
  std::unique_ptr<Pending> pending_;
  kernels::SideStream side_;
  kernels::Fence left_, settled_;
  struct Wait {  // of a round, on the model's stream
    kernels::Mark pass_end, summed;
  };
  std::vector<Wait> waits_;   // of the step's rounds
  kernels::Mark pass_begin_;  // of its last pass, likewise
  Trace::Time host_pass_begin_, host_pass_end_, host_summed_;
  double host_exposed_ms_ = 0, host_step_exposed_ms_ = 0;
};

}  // namespace dm::train
