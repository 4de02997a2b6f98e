#pragma once
// A new run that begins with the weights of another one, or of an imported model.

#include <string>
#include <vector>

#include "train/load_model.h"
#include "train/resume.h"

namespace dm::train {

/// Options that make another model of the stored one; a pattern is judged by the layers it gives.
std::vector<Difference> model_differences(const model::ModelConfig& stored,
                                          const model::ModelConfig& current);

/// The pieces of `all` that are weights, not optimizer state.
std::vector<checkpoints::Piece> weights_among(const std::vector<checkpoints::Piece>& all);

}  // namespace dm::train
