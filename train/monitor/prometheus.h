#pragma once
// A text file in Prometheus' exposition format, for the textfile collector of node_exporter.

#include <cstdint>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "train/monitor/step_metrics.h"

namespace dm::train {

class Prometheus {
 public:
  /// `run` becomes a label.
  Prometheus(std::string path, const std::string& run, int64_t restarts);

  void step(const StepMetrics& metrics);
  void difference(const std::vector<model::DifferenceStats>& layers) { layers_ = layers; }
  void evaluation(double nats_per_token) { held_out_loss_ = nats_per_token; }

  /// Replaces the file as a whole. A file system that refuses is reported once, and ends nothing.
  void write();

 private:
  std::string text() const;

  std::string path_, label_;
  int64_t restarts_;
  int64_t skipped_ = 0;  // steps, in this attempt
  StepMetrics last_;
  std::vector<model::DifferenceStats> layers_;
  double held_out_loss_;
  bool failing_ = false;
};

}  // namespace dm::train
