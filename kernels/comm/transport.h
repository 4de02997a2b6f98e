#pragma once
// Tensors through a group's collectives, without autograd: contiguous, of a floating type, on the device
// whose memory the group moves. Each call returns when the result may be read on the current stream.

#include <ATen/core/Tensor.h>

#include "core/collectives.h"

namespace dm::kernels {

/// The element type of a tensor as collectives name it.
DType comm_dtype(const at::Tensor& tensor);

/// In place, the sum over all ranks.
void all_reduce(const at::Tensor& values, Collectives& group);
/// The ranks' tensors, one after the other along a new first dim: [size, ..].
at::Tensor all_gather(const at::Tensor& mine, Collectives& group);
/// pieces [size, ..] -> this rank's piece of the sum over all ranks, [..].
at::Tensor reduce_scatter(const at::Tensor& pieces, Collectives& group);

}  // namespace dm::kernels
