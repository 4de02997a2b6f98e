#pragma once
// A trained model for use without an optimizer: evaluation, generation, inspection, export.

#include <functional>
#include <string>

#include "checkpoints/store.h"
#include "core/dtype.h"
#include "model/language_model.h"

namespace dm::train {

/// A model on disk, its weights not yet read.
struct CheckpointModel {
  model::ModelConfig config;
  checkpoints::Summary summary;  // step, directory, and meta: see train/state.h
  /// Of a parameter, whose shape has been compared with the config.
  DType dtype(const std::string& parameter) const;
};

/// `directory` is one checkpoint (it holds COMMIT) or a run: `use` gets its newest checkpoint, and when that
/// turns out to be damaged the one before it, which is reported. ExitCode::bad_data when there is none.
void with_newest_checkpoint(const std::string& directory,
                            const std::function<void(const CheckpointModel&)>& use);

struct LoadedModel {
  model::ModelConfig config;
  model::Parameters parameters;  // leaves without gradients, in the checkpoint's dtype
  checkpoints::Summary summary;
};

/// Every byte used is checked. Needs no ranks.
LoadedModel load_for_inference(const std::string& directory);

}  // namespace dm::train
