#pragma once
// Sums gradients over the ranks while the backward pass still runs: a bucket leaves when its layers have been
// differentiated.
//
// On the CPU a bucket's exchange starts inside the backward pass. On a GPU the pass, recorded as a graph or
// not, sets a mark where a bucket is complete; the exchanges are queued on a stream of their own, each behind
// its mark, once the host has launched the pass, and the model's stream waits for the last of them.

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device/stream.h"
#include "train/flat_parameters.h"
#include "train/gradient_exchange.h"

namespace dm::train {

class GradientReducer final : public GradientExchange {
 public:
  /// `parameters` is cut over its own group. `across`, if given, are the ranks that own the same pieces in
  /// other groups: the owned gradients are summed over them as well. All outlive this object.
  explicit GradientReducer(FlatParameters& parameters, Collectives* across = nullptr);

  int64_t rounds() const override { return 1; }
  /// What the last backward pass completes may leave.
  void pass_begins(bool last) override;
  void passed(int64_t depth) override;
  void finish() override;
  double exposed_ms() const override;
  void report(Trace& trace) const override;

 private:
  struct Exchange {  // of one bucket
    explicit Exchange(bool on_gpu) : complete(on_gpu), started(on_gpu), summed(on_gpu) {}
    kernels::Mark complete;         // on the model's stream
    kernels::Mark started, summed;  // on the side stream
    Trace::Time host_started, host_summed;
    std::unique_ptr<Pending> pending;
  };
  void start(size_t bucket);
  void await(size_t bucket);
  void finish_on_gpu();

  FlatParameters& parameters_;
  Collectives* across_;
  bool on_gpu_;
  bool alone_;  // nothing is waited for
  bool last_pass_ = false;
  std::vector<Exchange> exchanges_;
  size_t left_;  // exchanges not started in this step: 0 .. left_ - 1
  double host_exposed_ms_ = 0;
  kernels::SideStream side_;
  kernels::Mark pass_begin_, pass_end_, all_summed_;  // on the model's stream
  Trace::Time host_pass_begin_, host_pass_end_;
};

}  // namespace dm::train
