#pragma once
// What ranks that hold pieces of the same rows tell each other of a scan on a GPU
// (kernels/comm/context_axis.h), for the operations that are its tensor boundaries. Each passes over the
// states of its piece alone.

#include <ATen/core/Tensor.h>

#include "core/collectives.h"
#include "kernels/ssd/cuda/ssd_cuda.cuh"

namespace dm::kernels {

/// The state [B, H, P, N] that enters this rank's piece; undefined on the first rank, where in.initial_state
/// is what enters. `args` is what the forward pass will be told, but for that state; args.passed becomes what
/// it is to be then. `like` is on the device.
at::Tensor ssd_entering_state(cuda::SsdForward& args, cuda::SsdPath path, const at::Tensor& like,
                              Collectives& group);

/// What comes from behind to the gradient of the state that leaves it, beside args.dfinal_state; undefined on
/// the last rank. `args` is what the backward pass will be told; args.passed likewise.
at::Tensor ssd_leaving_gradient(cuda::SsdBackward& args, cuda::SsdPath path, const at::Tensor& like,
                                Collectives& group);

}  // namespace dm::kernels
