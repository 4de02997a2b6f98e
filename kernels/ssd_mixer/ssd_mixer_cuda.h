#pragma once
// The mixer on a GPU as one operation: every kernel reads and writes the columns of the projection and of the
// convolution's output where they are, and no gradient is assembled from pieces.
//
// Saved for the backward pass: projected, y and Δ of the scan, its states at chunk borders and the reciprocal
// roots of the norm. The convolution is computed again there, and so is the gated norm's output when out_proj
// is part of the operation; with recompute_scan only projected is kept, and the scan runs again as well.

#include "kernels/ssd_mixer/ssd_mixer.h"

namespace dm::kernels {

/// As ssd_mixer; with `out_proj` its product, [B, L, D].
at::Tensor ssd_mixer_cuda(const at::Tensor& projected, const SsdMixerWeights& weights,
                          const std::optional<at::Tensor>& scale, const at::Tensor& seq_idx,
                          const SsdMixerForm& form, const Weight* out_proj);

/// ssd_mixer_step with its product; nothing, and nothing queued, for shapes and dtypes that a chain does not
/// serve.
std::optional<at::Tensor> ssd_mixer_step_cuda(const at::Tensor& projected, const SsdMixerWeights& weights,
                                              const std::optional<at::Tensor>& scale, SsdMixerState& state,
                                              const SsdMixerForm& form, const Weight& out_proj,
                                              DecodeChain& chain);

}  // namespace dm::kernels
