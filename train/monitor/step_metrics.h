#pragma once
// What is measured of every step, defined once: from this list come the lines of metrics.jsonl, TensorBoard's
// scalars, Prometheus' gauges and the curves of a report.

#include <cstdint>
#include <string>

#include "core/json.h"

namespace dm::train {

struct StepMetrics {
  int64_t step = 0;
  double loss = 0;  // nats a target
  double lr = 0;
  double gradient_norm = 0;
  double clip = 1;  // factor on the gradient, 1 when it was not clipped
  std::string verdict;
  int64_t targets = 0;
  int64_t samples_seen = 0;
  int64_t tokens_seen = 0;
  double tokens_per_second = 0;
  double mfu = 0;  // NaN where the peak is not known
  double step_ms = 0;
  double data_wait_ms = 0;
  double exposed_communication_ms = 0;
  int64_t memory_bytes = 0;  // rank 0's peak: of tensors on its GPU, or of its process
  double training_seconds = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("step", self.step, "steps done, skipped ones included");
    v("loss", self.loss, "cross-entropy in nats a target");
    v("lr", self.lr, "learning rate");
    v("gradient_norm", self.gradient_norm, "of the whole gradient, before clipping");
    v("clip", self.clip, "factor on the gradient");
    v("verdict", self.verdict, "update, or why the step was skipped");
    v("targets", self.targets, "targets of the step that count");
    v("samples_seen", self.samples_seen, "rows read");
    v("tokens_seen", self.tokens_seen, "tokens read");
    v("tokens_per_second", self.tokens_per_second, "over all ranks");
    v("mfu", self.mfu, "share of the peak arithmetic that the model's operations are");
    v("step_ms", self.step_ms, "from asking for the batch to the new weights");
    v("data_wait_ms", self.data_wait_ms, "of them, waiting for data");
    v("exposed_communication_ms", self.exposed_communication_ms, "of them, waiting for other ranks");
    v("memory_bytes", self.memory_bytes, "peak of rank 0: of tensors on its GPU, or of its process");
    v("training_seconds", self.training_seconds, "summed over attempts");
  }

  bool skipped() const { return verdict != "update"; }

  OrderedJson json() const;
  /// Takes what a line of metrics.jsonl has; null is NaN, and what is absent (an older version's line) is NaN
  /// or 0. False for a line of another kind.
  static bool parse(const Json& line, StepMetrics& metrics);
};

}  // namespace dm::train
