#pragma once

#include <optional>

#include "kernels/scan_output.h"

namespace dm::kernels {

/// selective_scan() of kernels/selective_scan/selective_scan.h as the recurrence is written, one token after
/// the other in plain tensor operations, differentiable through autograd: the truth (in float64) that the
/// fast form answers to.
ScanOutput selective_scan_reference(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                                    const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                                    const at::Tensor& seq_idx,
                                    const std::optional<at::Tensor>& initial_state);

}  // namespace dm::kernels
