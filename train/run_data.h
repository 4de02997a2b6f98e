#pragma once
// What a run reads, opened and checked against its config before anything of the run exists on disk: a
// command that is refused for its data leaves no folder behind.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/loader.h"
#include "train/run_config.h"
#include "train/tasks/task_set.h"

namespace dm::train {

class RunData {
 public:
  /// Throws ExitCode::usage or ::bad_data naming the option or file. `config` outlives this object.
  RunData(const RunConfig& config, int64_t rank, int64_t world);

  /// Starts to read the batches from `samples_consumed` on.
  std::unique_ptr<data::Loader> start(int64_t samples_consumed) const;

  const data::Dataset& first() const { return *datasets_.front().dataset; }
  const data::Dataset* held_out() const { return held_out_.get(); }     // nullptr without --eval-data
  const TaskSet* tasks() const { return tasks_ ? &*tasks_ : nullptr; }  // nullptr without --tasks

 private:
  const RunConfig& config_;
  data::Loader::Shape shape_;
  std::vector<data::WeightedDataset> datasets_;
  std::shared_ptr<const data::Dataset> held_out_;
  std::optional<TaskSet> tasks_;
};

}  // namespace dm::train
