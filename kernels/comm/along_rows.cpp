#include "kernels/comm/along_rows.h"

#include <ATen/ATen.h>

#include "kernels/comm/context_axis.h"
#include "kernels/conv/causal_conv.h"

namespace dm::kernels {
namespace {

/// `values` where the condition, made to broadcast over its further dims, holds, else zero: whatever they are
/// elsewhere, and without a gradient there.
at::Tensor only(at::Tensor condition, const at::Tensor& values) {
  while (condition.dim() < values.dim()) condition = condition.unsqueeze(-1);
  return at::where(condition, values, at::zeros({}, values.options()));
}

}  // namespace

at::Tensor conv_along_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const Documents& documents, const std::optional<at::Tensor>& window) {
  const int64_t count = weight.size(1) - 1;
  const bool before = count > 0 && documents.before.defined() && (documents.context || window);
  if (!before) return causal_conv_silu(x, weight, bias, documents.seq_idx, std::nullopt);
  const at::Tensor first = window.value_or(at::Tensor());
  const at::Tensor tokens = documents.context ? tokens_before(x, count, *documents.context, first) : first;
  const at::Tensor same = documents.before.narrow(1, documents.before.size(1) - count, count)
                              .eq(documents.seq_idx.narrow(1, 0, 1));  // [B, W - 1]
  return causal_conv_silu(x, weight, bias, documents.seq_idx, only(same, tokens));
}

std::vector<ScanOutput> selective_scans_along_rows(std::vector<SelectiveScanInput> scans,
                                                   const Documents& documents) {
  const auto scanned = [&](const SelectiveScanInput& s) {
    return selective_scan(s.x, s.dt, s.a, s.b, s.c, s.d, documents.seq_idx, s.initial_state);
  };
  if (documents.before.defined())
    for (SelectiveScanInput& s : scans)
      if (s.initial_state) s.initial_state = only(documents.continues(), *s.initial_state);
  if (documents.context) {
    std::vector<at::Tensor> states, decays;
    for (const SelectiveScanInput& s : scans) {
      states.push_back(scanned(s).final_state);
      const at::Tensor steps = only(documents.passed(), s.dt).sum(1, false, s.a.scalar_type());  // [B, E]
      decays.push_back(only(documents.passed(), (steps.unsqueeze(-1) * s.a).exp()));             // [B, E, N]
    }
    const at::Tensor found = state_before(at::cat(states, 1), at::cat(decays, 1), *documents.context);
    int64_t channel = 0;
    for (SelectiveScanInput& s : scans) {
      const int64_t channels = s.a.size(0);
      const at::Tensor state = only(documents.continues(), found.narrow(1, channel, channels));
      // Added, though one of the two is zero: every rank takes part, going back too.
      s.initial_state = s.initial_state ? *s.initial_state + state : state;
      channel += channels;
    }
  }
  std::vector<ScanOutput> out;
  for (const SelectiveScanInput& s : scans) out.push_back(scanned(s));
  return out;
}

}  // namespace dm::kernels
