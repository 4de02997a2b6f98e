#pragma once
// How the gradients of a step are summed over the ranks while its passes compute them: once a step
// (gradient_reducer.h), or after every pass (scattered_gradients.h). Either leaves in what each rank owns
// the sum over all ranks and passes.

#include <cstdint>

#include "train/trace.h"

namespace dm::train {

class GradientExchange {
 public:
  virtual ~GradientExchange() = default;

  /// How often a step calls finish(), on every rank alike: once, behind the last pass, or behind every pass
  /// of the rank that has most of them.
  virtual int64_t rounds() const = 0;
  /// A pass begins, this rank's last one of the step or not.
  virtual void pass_begins(bool last) = 0;
  /// In a backward pass: gradients of parameters of greater depth than this are complete
  /// (LanguageModel::watch_backward).
  virtual void passed(int64_t depth) = 0;
  /// The round's pass has been launched, or this rank had none in it.
  virtual void finish() = 0;

  /// Milliseconds in which the last step did nothing but exchange gradients. On a GPU known once the model's
  /// stream has been waited for.
  virtual double exposed_ms() const = 0;
  /// The last step's last pass and exchanges, likewise.
  virtual void report(Trace& trace) const = 0;
};

}  // namespace dm::train
