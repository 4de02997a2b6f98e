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

/// The state that enters the piece, where it is of the document of the first token.
at::Tensor entering(const at::Tensor& state, const at::Tensor& decay, const Documents& documents) {
  return only(documents.continues(),
              state_before(state, only(documents.passed(), decay), *documents.context));
}

}  // namespace

at::Tensor conv_along_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const Documents& documents) {
  const int64_t before = weight.size(1) - 1;
  if (!documents.context || before == 0)
    return causal_conv_silu(x, weight, bias, documents.seq_idx, std::nullopt);
  const at::Tensor same = documents.before.eq(documents.seq_idx.narrow(1, 0, 1));  // [B, W - 1]
  const at::Tensor tokens = only(same, tokens_before(x, before, *documents.context));
  return causal_conv_silu(x, weight, bias, documents.seq_idx, tokens);
}

at::Tensor ssd_along_rows(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, const Documents& documents,
                          int64_t chunk) {
  const ScanOutput piece = ssd(x, dt, a, b, c, d, documents.seq_idx, std::nullopt, chunk);
  if (!documents.context) return piece.y;
  const int64_t groups = b.size(2);
  const at::Tensor reached = documents.continued();
  const at::Tensor decay = (only(reached, dt) * a).cumsum(1).exp();  // [B, L, H]
  const at::Tensor state = entering(piece.final_state, decay.select(1, -1).unsqueeze(-1).unsqueeze(-1),
                                    documents);  // [B, H, P, N]
  // By groups: S of all heads of one, [B, G, N, H / G P], meets its C, [B, G, L, N].
  const at::Tensor states = state.unflatten(1, {groups, -1}).flatten(2, 3).transpose(2, 3);
  const at::Tensor reading = only(reached, c).to(state.scalar_type()).transpose(1, 2);
  const at::Tensor y = at::matmul(reading, states);                 // [B, G, L, H / G P]
  const at::Tensor by_head = y.transpose(1, 2).reshape(x.sizes());  // [B, L, H, P]
  return (piece.y + only(reached, decay.unsqueeze(-1) * by_head)).to(x.scalar_type());
}

at::Tensor selective_scan_along_rows(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                                     const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                                     const Documents& documents) {
  if (!documents.context) return selective_scan(x, dt, a, b, c, d, documents.seq_idx, std::nullopt).y;
  const at::Tensor last = selective_scan(x, dt, a, b, c, d, documents.seq_idx, std::nullopt).final_state;
  const at::Tensor steps = only(documents.continued(), dt).sum(1);  // [B, E]
  const at::Tensor decay = (steps.unsqueeze(-1) * a).exp();         // [B, E, N]
  const at::Tensor state = entering(last, decay.to(last.scalar_type()), documents);
  return selective_scan(x, dt, a, b, c, d, documents.seq_idx, state).y;
}

}  // namespace dm::kernels
