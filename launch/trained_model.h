#pragma once
// A trained model as the commands that use one meet it: the weights, and what its checkpoint says of the
// data.

#include <memory>
#include <string>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "train/load_model.h"
#include "train/state.h"

namespace dm::launch {

struct TrainedModel {
  train::LoadedModel model;
  train::Meta meta;
  int64_t length = 0;  // tokens a row in training
};

/// From a run (its newest checkpoint that loads) or one checkpoint.
TrainedModel load_trained_model(const std::string& directory);

/// The tokenizer that the checkpoint names; ExitCode::bad_data when the file has changed since.
std::unique_ptr<data::Tokenizer> open_trained_tokenizer(const TrainedModel& trained);

/// ExitCode::bad_data when the dataset was made with another tokenizer than the model was trained with.
void refuse_other_tokenizer(const TrainedModel& trained, const data::Dataset& dataset);

}  // namespace dm::launch
