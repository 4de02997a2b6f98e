#pragma once
// A trained model as the commands that use one meet it: the weights, and what its checkpoint says of the
// data.

#include <cstdint>
#include <memory>
#include <string>

#include "core/fields.h"
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

/// Where a trained model works, and in which precision.
struct PlaceOptions {
  std::string device = "cpu";
  std::string compute = "auto";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("device", self.device, "where the model is: on the CPU, or on one GPU a rank",
      Choices{{"cpu", "cuda"}});
    v("compute", self.compute,
      "type of activations and products; auto: bf16 on a GPU, that of the weights on the CPU",
      Choices{{"auto", "bf16", "f32"}});
  }
};

/// The model of `trained`, whose parameters go to the device: GPU `gpu` of this host. ExitCode::usage for a
/// device that is not there, and for types that it does not compute in.
std::unique_ptr<model::LanguageModel> place(TrainedModel& trained, const PlaceOptions& options,
                                            int64_t gpu = 0);

}  // namespace dm::launch
