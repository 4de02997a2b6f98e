#pragma once
// Parameters of a model that is nothing but layers, for tests of what travels bucket by bucket.

#include <cstdint>
#include <string>
#include <vector>

#include "model/language_model.h"

namespace dm::train {

/// A parameter "p<depth>" for each of `layers` and one behind them, of size_of(depth) elements.
template <class Size>
std::vector<model::ParameterInfo> layer_parameters(int64_t layers, Size size_of) {
  std::vector<model::ParameterInfo> result;
  for (int64_t depth = 0; depth <= layers; ++depth) {
    result.emplace_back();
    result.back().name = "p" + std::to_string(depth);
    result.back().shape = {size_of(depth)};
    result.back().depth = depth;
  }
  return result;
}

}  // namespace dm::train
