// The mixer composed of its operations, which is how a CPU runs it, and a GPU where other ranks hold a part
// of a gated norm's span.

#include "kernels/ssd_mixer/ssd_mixer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/comm/along_rows.h"
#include "kernels/conv/causal_conv.h"
#include "kernels/gated_norm/gated_norm.h"
#include "kernels/linear/linear.h"
#include "kernels/ssd/ssd.h"
#include "kernels/ssd_mixer/conv_inputs.h"
#include "kernels/ssd_mixer/ssd_mixer_cuda.h"

namespace dm::kernels {
namespace {

/// Columns [begin, begin + width) of every branch, merged: [.., branches * width]. A copy where branches lie
/// apart.
at::Tensor section(const at::Tensor& columns, const SsdMixerForm& form, int64_t begin, int64_t width) {
  return columns.unflatten(-1, {form.branches, -1}).narrow(-1, begin, width).flatten(-2);
}

struct Projected {
  at::Tensor z;   // [.., branches * E]
  at::Tensor x;   // [.., branches * channels], of each branch x | B | C
  at::Tensor dt;  // [.., branches * H], as projected
};
Projected split(const at::Tensor& projected, const SsdMixerForm& form) {
  return {section(projected, form, 0, form.inner), section(projected, form, form.inner, form.channels()),
          section(projected, form, form.inner + form.channels(), form.heads)};
}

struct Scanned {
  at::Tensor x;     // [.., H, P] of all branches
  at::Tensor dt;    // [.., H]
  at::Tensor b, c;  // [.., G, N]
};
/// Inputs of the scan from convolved channels and raw step sizes, for whole rows and single tokens alike.
Scanned scanned(const at::Tensor& conv, const at::Tensor& dt, const SsdMixerWeights& w,
                const SsdMixerForm& form) {
  const auto heads = [&](const at::Tensor& t, int64_t count) {
    return t.unflatten(-1, {form.branches * count, -1});
  };
  const at::Tensor step = at::softplus(dt + w.dt_bias);
  return {heads(section(conv, form, 0, form.inner), form.heads),
          form.dt_min > 0 || std::isfinite(form.dt_max) ? step.clamp(form.dt_min, form.dt_max) : step,
          heads(section(conv, form, form.inner, form.group_width()), form.groups),
          heads(section(conv, form, form.inner + form.group_width(), form.group_width()), form.groups)};
}

void check(const at::Tensor& projected, const SsdMixerForm& form) {
  DM_CHECK(projected.size(-1) == form.branches * form.rows(),
           "ssd_mixer: projected is {}, expected {} branches of {} columns", describe(projected),
           form.branches, form.rows());
}

}  // namespace

at::Tensor ssd_mixer(const at::Tensor& projected, const SsdMixerWeights& w,
                     const std::optional<at::Tensor>& scale, const Documents& documents,
                     const SsdMixerForm& form, const SsdMixerReach& reach) {
  check(projected, form);
  if (projected.is_cuda() && reach.spans.count == 0)
    return ssd_mixer_cuda(projected, w, scale, documents, form, reach, nullptr);
  const Projected in = split(projected, form);
  std::optional<at::Tensor> window, state;
  if (reach.entering) window = reach.entering->window, state = reach.entering->state;
  const at::Tensor conv = conv_along_rows(in.x, w.conv_weight, w.conv_bias, documents, window);  // [B, L, C]
  const Scanned s = scanned(conv, in.dt, w, form);
  const ScanOutput scan = ssd(s.x, s.dt, w.a, s.b, s.c, w.d, documents, state, form.chunk);
  if (reach.leaving) {
    const int64_t count = w.conv_weight.size(1) - 1, length = projected.size(1);
    DM_CHECK(!documents.context || length >= count,
             "ssd_mixer: a piece of {} tokens does not know the {} inputs that it ends in", length, count);
    *reach.leaving = {window_behind(projected, form, count, window.value_or(at::Tensor())),
                      scan.final_state.detach()};
  }
  const at::Tensor y = scan.y.flatten(-2);
  if (reach.spans.count == 0) return gated_norm(y, in.z, w.norm, form.spans, scale, form.eps);  // [B, L, E]
  const at::ScalarType sums = parameter_dtype(y);
  const at::Tensor gated = y.to(sums) * at::silu(in.z.to(sums));
  return split_rms_norm(gated, w.norm, reach.spans, scale, form.eps, *reach.tensor).to(y.scalar_type());
}

at::Tensor ssd_mixer(const at::Tensor& projected, const SsdMixerWeights& w,
                     const std::optional<at::Tensor>& scale, const Documents& documents,
                     const SsdMixerForm& form, const SsdMixerReach& reach, const Weight& out_proj) {
  check(projected, form);
  if (projected.is_cuda() && reach.spans.count == 0)
    return ssd_mixer_cuda(projected, w, scale, documents, form, reach, &out_proj);
  return linear(ssd_mixer(projected, w, scale, documents, form, reach), out_proj);
}

at::Tensor ssd_mixer_step(const at::Tensor& projected, const SsdMixerWeights& w,
                          const std::optional<at::Tensor>& scale, SsdMixerState& state,
                          const SsdMixerForm& form) {
  check(projected, form);
  const Projected in = split(projected, form);
  const at::Tensor conv = causal_conv_step(in.x, w.conv_weight, w.conv_bias, state.window);  // [B, C]
  const Scanned s = scanned(conv, in.dt, w, form);
  const at::Tensor y = ssd_step(s.x, s.dt, w.a, s.b, s.c, w.d, state.state).flatten(-2);  // [B, E]
  return gated_norm(y.unsqueeze(1), in.z.unsqueeze(1), w.norm, form.spans, scale, form.eps).squeeze(1);
}

at::Tensor ssd_mixer_step(const at::Tensor& projected, const SsdMixerWeights& w,
                          const std::optional<at::Tensor>& scale, SsdMixerState& state,
                          const SsdMixerForm& form, const Weight& out_proj, DecodeChain& chain) {
  check(projected, form);
  if (projected.is_cuda())
    if (std::optional<at::Tensor> product =
            ssd_mixer_step_cuda(projected, w, scale, state, form, out_proj, chain))
      return *std::move(product);
  chain.run();
  return linear(ssd_mixer_step(projected, w, scale, state, form), out_proj);
}

}  // namespace dm::kernels
