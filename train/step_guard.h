#pragma once
// The decision before the optimizer moves: whether a step's loss and gradient may be used. It is a pure
// function of numbers that all ranks share, so all ranks decide alike; its memory goes into checkpoints, so a
// resumed run decides as the uninterrupted one would.

#include <cstdint>
#include <deque>

#include "core/collectives.h"
#include "core/json.h"

namespace dm::train {

/// What one rank knows about a step; after agree(), what all know.
struct StepFacts {
  double nats = 0;              // loss summed over counted targets
  double targets = 0;           // counted targets; exact below 2^53
  double gradient_squares = 0;  // of the gradient of `nats`
  bool stop = false;            // a signal asked this rank to stop
  bool save_due = false;        // by the clock of rank 0
  bool time_up = false;         // by the clock of rank 0
  bool saving = false;          // this rank still writes its part of a checkpoint

  double loss() const { return nats / targets; }  // nats a target; NaN without targets
  double gradient_norm() const;                   // of the mean loss's gradient
};

/// Bytes of the one reduction of a step.
inline constexpr int64_t kAgreedBytes = 7 * int64_t{sizeof(double)};

/// That reduction. Sums the numbers in rank order; a flag is true when it is true on any rank.
StepFacts agree(const StepFacts& mine, Collectives& group);

enum class Verdict { update, not_finite, spike, no_targets };
const char* name(Verdict verdict);

class StepGuard {
 public:
  /// A spike is a loss or gradient norm above mean + sigma * standard deviation of the last `window` finite
  /// ones, judged once half a window has been seen; sigma 0: never. Spikes enter the window, so a level that
  /// stays is accepted in time.
  StepGuard(double sigma, int64_t window);

  /// Judges a step and remembers it.
  Verdict judge(const StepFacts& facts);
  /// Steps skipped since the last update, not counting those without targets.
  int64_t skipped_in_a_row() const { return skipped_in_a_row_; }

  Json state() const;
  void restore(const Json& state, const std::string& where);

 private:
  double sigma_;
  int64_t window_;
  std::deque<double> losses_, norms_;  // oldest first
  int64_t skipped_in_a_row_ = 0;
};

}  // namespace dm::train
