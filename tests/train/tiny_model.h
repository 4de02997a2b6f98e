#pragma once
// A model of a few thousand parameters with a differential, a plain and a feed-forward layer.

#include "core/collectives.h"
#include "model/language_model.h"
#include "train/flat_parameters.h"

namespace dm::test {

inline model::ModelConfig tiny_model() {
  model::ModelConfig config;
  config.pattern = "DMF";
  config.d_model = 16;
  config.d_state = 4;
  config.head_dim = 8;
  config.head_dim_plain = 8;
  config.chunk_size = 8;
  config.vocab_size = 257;
  return config;
}

/// The model with its weights drawn from `seed`, on one process.
struct TinyModel {
  explicit TinyModel(uint64_t seed, model::ModelConfig config = tiny_model())
      : group(make_single_process_collectives()),
        parameters(model::parameter_infos(config), DType::f64, *group),
        model(config, parameters.leaves()) {
    parameters.initialise(config, seed);
  }
  std::unique_ptr<Collectives> group;
  train::FlatParameters parameters;
  model::LanguageModel model;
};

}  // namespace dm::test
