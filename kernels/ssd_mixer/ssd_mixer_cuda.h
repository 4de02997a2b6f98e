#pragma once
// The mixer on a GPU as one operation: every kernel reads and writes the columns of the projection and of the
// convolution's output where they are, and no gradient is assembled from pieces.
//
// Of a piece of the rows likewise: what comes from the ranks before it, the convolution's last inputs and the
// state that enters the scan, is exchanged inside the operation, and in its backward pass the gradients of
// both. The scan then starts from that state; to be known in time it takes a pass over the states alone
// (kernels/ssd/cuda/passage.h), each way, which is all that a cut costs in computation.
//
// Saved for the backward pass: projected, y and Δ of the scan, its states at chunk borders and the reciprocal
// roots of the norm; where rows go on from elsewhere what entered. The convolution is computed again there,
// and so is the gated norm's output when out_proj is part of the operation. With MixerRecompute::none these
// two are kept as well; with `scan` only projected is, and the scan runs again too.

#include "kernels/ssd_mixer/ssd_mixer.h"

namespace dm::kernels {

/// As ssd_mixer of whole spans; with `out_proj` its product, [B, L, D].
at::Tensor ssd_mixer_cuda(const at::Tensor& projected, const SsdMixerWeights& weights,
                          const std::optional<at::Tensor>& scale, const Documents& documents,
                          const SsdMixerForm& form, const SsdMixerReach& reach, const Weight* out_proj);

/// ssd_mixer_step with its product; nothing, and nothing queued, for shapes and dtypes that a chain does not
/// serve.
std::optional<at::Tensor> ssd_mixer_step_cuda(const at::Tensor& projected, const SsdMixerWeights& weights,
                                              const std::optional<at::Tensor>& scale, SsdMixerState& state,
                                              const SsdMixerForm& form, const Weight& out_proj,
                                              DecodeChain& chain);

}  // namespace dm::kernels
