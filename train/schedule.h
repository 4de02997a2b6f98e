#pragma once
// The learning rate as a pure function of the step: nothing to save, nothing to resume.

#include <cstdint>
#include <string>

#include "core/fields.h"

namespace dm::train {

struct ScheduleConfig {
  std::string schedule = "cosine";  // cosine | wsd | linear | constant
  int64_t warmup = 0;               // steps
  double min_lr_ratio = 0.1;        // of the peak, where a decay ends
  int64_t decay_steps = 0;          // length of the decay

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("schedule", self.schedule,
      "learning rate after the warm-up: cosine or linear decay, wsd (constant, then a linear decay at the "
      "end), constant",
      Choices{{"cosine", "wsd", "linear", "constant"}});
    v("warmup", self.warmup, "steps over which the learning rate rises linearly to its peak", Range{0, 1e12});
    v("min_lr_ratio", self.min_lr_ratio, "learning rate at the end of a decay, as a fraction of the peak",
      Range{0, 1});
    v("decay_steps", self.decay_steps,
      "length of the decay in steps; 0: cosine and linear until the run's end, wsd the last tenth of the run",
      Range{0, 1e12});
  }
};

/// The factor on the peak learning rate in the step that follows `step` completed ones, in a run of
/// `total_steps` (0: without a known end, for which wsd, and cosine and linear without decay_steps, have no
/// answer: ExitCode::internal).
///   step < warmup:   (step + 1) / warmup
///   cosine:          m + (1 - m) (1 + cos(pi t)) / 2,  t = (step - warmup) / decay_steps, at most 1
///   linear:          m + (1 - m) (1 - t)
///   wsd:             1 until total_steps - decay_steps, then as linear from there
/// A decay starts at the peak; its end, m, would be reached by the step after its last.
double schedule_factor(const ScheduleConfig& config, int64_t step, int64_t total_steps);

/// Refuses (ExitCode::usage) schedules that do not fit a run of `total_steps` (0: unknown), naming the
/// options.
void validate(const ScheduleConfig& config, int64_t total_steps);

}  // namespace dm::train
