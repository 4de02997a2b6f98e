#pragma once

#include "kernels/ssd/ssd.h"

namespace dm::kernels {

/// ssd() on a GPU, its arguments checked: an operation by itself, for mixers of which other ranks hold a
/// part. Whole mixers take kernels/ssd_mixer, which puts no gradient together from pieces.
ScanOutput ssd_scan_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                         const at::Tensor& c, const at::Tensor& d, const Documents& documents,
                         const std::optional<at::Tensor>& initial_state);

}  // namespace dm::kernels
