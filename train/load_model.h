#pragma once
// A trained model for use without an optimizer: evaluation, generation, inspection, export.

#include <string>

#include "checkpoints/store.h"
#include "core/dtype.h"
#include "model/language_model.h"

namespace dm::train {

struct LoadedModel {
  model::ModelConfig config;
  model::Parameters parameters;  // leaves without gradients, in the checkpoint's dtype
  checkpoints::Summary summary;  // step, directory, and meta: see train/state.h
};

/// `directory` is one checkpoint (it holds COMMIT) or a run, of which the newest checkpoint that loads is
/// taken; those that do not are reported. Every byte used is checked. Needs no ranks. ExitCode::bad_data when
/// there is none.
LoadedModel load_for_inference(const std::string& directory);

}  // namespace dm::train
