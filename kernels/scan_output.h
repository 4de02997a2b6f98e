#pragma once

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// What a scan over a row of tokens gives: a value per token, and the state after the last one.
struct ScanOutput {
  at::Tensor y;
  at::Tensor final_state;
};

}  // namespace dm::kernels
