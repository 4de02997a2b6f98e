#pragma once
// A group kept from the forward to the backward pass. It outlives the graph: whoever made the model owns it.

#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>

#include "core/collectives.h"

namespace dm::kernels {

inline void keep_group(torch::autograd::AutogradContext& context, Collectives& group) {
  context.saved_data["group"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(&group));
}
inline Collectives& kept_group(torch::autograd::AutogradContext& context) {
  return *reinterpret_cast<Collectives*>(static_cast<intptr_t>(context.saved_data["group"].toInt()));
}

}  // namespace dm::kernels
