#pragma once
// RMSNorm over spans of channels that reach over the ranks of a group: each rank holds some channels of some
// spans, the sums of squares travel.
//   out_e = x_e / sqrt(Σ over e's span, on all ranks, of x² / width + eps) * weight_e * scale[section of e]

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "core/collectives.h"

namespace dm::kernels {

/// Which spans this rank's channels belong to.
struct SplitSpans {
  std::vector<int64_t> span_of;  // of each of the equal parts its channels consist of
  int64_t count = 0;             // spans on all ranks together
  int64_t width = 0;             // channels of a span on all ranks together
};

/// x [.., E], weight [E], scale as gated_norm takes it -> [.., E], in x's dtype. Sums in float32 for
/// bfloat16, else in x's dtype. Differentiable in x, weight and scale. Exchanges count values a token each
/// way, in the type of the sums, by all_reduce.
at::Tensor split_rms_norm(const at::Tensor& x, const at::Tensor& weight, const SplitSpans& spans,
                          const std::optional<at::Tensor>& scale, double eps, Collectives& group);

}  // namespace dm::kernels
