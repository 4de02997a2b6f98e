#pragma once
// What a mixer's operations need of the tokens before those at hand, where rows go on from batch to batch.

#include <ATen/core/Tensor.h>

#include <vector>

namespace dm::kernels {

/// Where the operations along the rows of one layer stand between two tokens.
struct RowState {
  at::Tensor window;               // [B, W - 1, C]: the convolution's last inputs, oldest first
  std::vector<at::Tensor> states;  // of the scans, [B, ..] each
};

/// A batch whose rows go on where those of the batch before ended. No gradient crosses that border.
struct Carried {
  RowState before;  // of the document of each row's first token; zero where it begins there. Stays as it is
                    // until the backward pass is over
  RowState after;   // taken down by the operations: of the document of each row's last token. As many states
                    // as `before`
};

}  // namespace dm::kernels
