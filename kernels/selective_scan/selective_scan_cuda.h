#pragma once

#include "kernels/selective_scan/selective_scan.h"

namespace dm::kernels {

/// selective_scan() and selective_step() on a GPU, their arguments checked.
ScanOutput selective_scan_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                               const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial_state);
at::Tensor selective_step_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                               at::Tensor& state);

}  // namespace dm::kernels
