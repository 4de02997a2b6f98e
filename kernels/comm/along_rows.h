#pragma once
// The operations that go along a row where rows go on from elsewhere: from the piece of the rank before, or
// from what a row ended in earlier. On rows that begin and end here they are the operations of the same
// names, at no cost. ssd() needs no such form: it takes documents itself.

#include <optional>
#include <vector>

#include "kernels/comm/documents.h"
#include "kernels/selective_scan/selective_scan.h"

namespace dm::kernels {

/// causal_conv_silu(); the W - 1 tokens before the piece come from the rank before, those before the row are
/// `window` [B, W - 1, C], or none.
at::Tensor conv_along_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const Documents& documents, const std::optional<at::Tensor>& window = {});

/// Of one of a mixer's scans.
struct SelectiveScanInput {
  at::Tensor x, dt, a, b, c, d;
  std::optional<at::Tensor> initial_state = {};  // enters the row, whose first piece this rank must have
};

/// selective_scan() of each; their states travel together. Their decay differs by channel and state, so that
/// a state that enters late could only be added at the cost of another scan: the piece is scanned for the
/// state it ends in, and again from the state that enters it.
std::vector<ScanOutput> selective_scans_along_rows(std::vector<SelectiveScanInput> scans,
                                                   const Documents& documents);

}  // namespace dm::kernels
