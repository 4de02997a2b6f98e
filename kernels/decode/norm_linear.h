#pragma once
// Between two blocks of the network while decoding, with the next block's first product behind it:
//   h' = h + (subln ? rms_norm(y, subln) : y)
//   p  = W rms_norm(h', weight)

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/decode/decode_chain.h"
#include "kernels/linear/weight.h"

namespace dm::kernels {

/// What stands in front of a block: the stream and the output of the block before, which is not in it yet.
struct PendingNorm {
  at::Tensor h;                     // [B, D]
  std::optional<at::Tensor> y;      // [B, D]; none: the stream is complete
  std::optional<at::Tensor> subln;  // [D]: a norm of y
  at::Tensor weight;                // [D]
  double eps;
};

struct NormedProduct {
  at::Tensor h;        // h' [B, D]
  at::Tensor product;  // p [B, O], in the dtype of `matrix`
};

/// `matrix` [O, D]. Not differentiable. On a GPU up to eight rows in bfloat16, with a float32 stream, are
/// queued in the chain and read the matrix once; other shapes take the norm and the product one after the
/// other. h and y may come from the chain.
NormedProduct norm_linear(const PendingNorm& pending, const Weight& matrix, DecodeChain& chain);

}  // namespace dm::kernels
