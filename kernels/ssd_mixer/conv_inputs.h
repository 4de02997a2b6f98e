#pragma once
// The columns of a mixer's projection that its convolution reads.

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/ssd_mixer/ssd_mixer.h"

namespace dm::kernels {

/// A view [B, L, branches, channels] of projected [B, L, >= branches * rows].
inline at::Tensor conv_inputs(const at::Tensor& projected, const SsdMixerForm& form) {
  return projected.narrow(-1, 0, form.branches * form.rows())
      .unflatten(-1, {form.branches, form.rows()})
      .narrow(-1, form.inner, form.channels());
}

/// Those of the last tokens, `count` or all there are: [B, min(count, L), branches * channels].
inline at::Tensor last_inputs(const at::Tensor& projected, const SsdMixerForm& form, int64_t count) {
  const int64_t length = projected.size(1), kept = std::min(count, length);
  return conv_inputs(projected, form).narrow(1, length - kept, kept).flatten(-2);
}

/// What rows that go on with these begin with: the last `count`, some of which may be of `window`, which
/// stood before these (undefined: zeros).
inline at::Tensor window_behind(const at::Tensor& projected, const SsdMixerForm& form, int64_t count,
                                const at::Tensor& window) {
  const at::Tensor last = last_inputs(projected.detach(), form, count).contiguous();
  const int64_t length = last.size(1);
  if (length == count) return last;
  const at::Tensor before =
      window.defined() ? window : at::zeros({last.size(0), count, last.size(2)}, last.options());
  return at::cat({before.narrow(1, length, count - length), last}, 1);
}

}  // namespace dm::kernels
