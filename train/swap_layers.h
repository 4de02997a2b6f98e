#pragma once
// From a pretrained plain mixer (E = 2D) to a differential one (two of E = D), as the paper does for
// retrieval: which elements of the plain layer's parameters the two branches start from.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"

namespace dm::train {

/// The model with its last `count` layers made differential; ExitCode::usage when they are not plain Mamba-2
/// mixers whose heads can be halved.
model::ModelConfig swap_last_layers(const model::ModelConfig& config, int64_t count);

/// A stretch of a row-major tensor.
struct Run {
  int64_t begin = 0, count = 0;
};

/// Of the plain layer's parameter, in order, the elements that `name` of the differential layer starts from;
/// none for parameters that the plain layer lacks. `name` is the full one of a swapped layer.
///   head   each branch takes half of every head's channels, and B, C, Δ and what belongs to whole heads
///   rows   as the published code: of a tensor that does not fit, the first branch takes the first rows (or
///   columns),
///          the second the last ones, across the sections
struct SwapSource {
  std::string name;  // of the plain layer's parameter
  std::vector<Run> runs;
};
std::optional<SwapSource> swap_source(const std::string& name, const std::vector<int64_t>& shape,
                                      const model::ModelConfig& plain, const std::string& split);

}  // namespace dm::train
