#pragma once
// RUN/tensorboard/: event files as TensorBoard reads them, one an attempt. Scalars of every step, of
// evaluations and of the differential layers, a histogram of λ over these, and the options as text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "model/language_model.h"
#include "train/appended_file.h"
#include "train/monitor/protobuf.h"
#include "train/monitor/step_metrics.h"

namespace dm::train {

class Tensorboard {
 public:
  /// Cuts the files of earlier attempts after `last_step` and begins a new one, which also tells a running
  /// TensorBoard to forget what it has read of later steps. `config` is shown as it is.
  Tensorboard(const std::string& run_dir, int64_t last_step, const std::string& config);

  void step(const StepMetrics& metrics);
  void difference(int64_t step, const std::vector<model::DifferenceStats>& layers);
  /// The numbers of an evaluation after `step`; on a resume from that step it is done again.
  void evaluation(int64_t step, const Json& values);

 private:
  void append(const protobuf::Message& event);

  AppendedFile file_;
};

}  // namespace dm::train
