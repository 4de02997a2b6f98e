#pragma once
// AdamW on a GPU: one launch for a flat range of many parameters (formulas: kernels/adamw/adamw.h).

#include <ATen/core/Tensor.h>

#include "kernels/adamw/factors.h"

namespace dm::kernels {

/// Tensors on one GPU, contiguous. What changes from step to step lies in device memory, so that the call can
/// sit in a graph.
struct AdamWRange {
  at::Tensor weight, m, v;  // float32 [count], updated
  at::Tensor grad;          // float32 [count]
  at::Tensor decayed;  // int64 [k, 2]: begin and end of the elements with weight decay, ascending, disjoint;
                       // `keep` counts as 1 for all others
  at::Tensor factors;  // float32 [7]: an AdamWFactors<float>
};

/// Each element gets the bits that adamw<float>() gives it on the CPU.
void adamw_cuda(const AdamWRange& range);

}  // namespace dm::kernels
