#pragma once
// The operations that go along a row, for rows that are whole or cut into pieces over the ranks of a context
// group. On whole rows they are the operations of the same names, at no cost.

#include "kernels/comm/documents.h"
#include "kernels/selective_scan/selective_scan.h"
#include "kernels/ssd/ssd.h"

namespace dm::kernels {

/// causal_conv_silu(); the W - 1 tokens before the piece come from the rank before.
at::Tensor conv_along_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const Documents& documents);

/// y of ssd(). Each rank scans its piece once, from zero; the state S that enters the piece is composed from
/// what the others found (kernels/comm/context_axis.h) and added where it reaches, the tokens t of the
/// document that goes on: y_t += exp(Σ_{r<=t} Δ_r a) S C_t.
at::Tensor ssd_along_rows(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, const Documents& documents,
                          int64_t chunk);

/// y of selective_scan(). Its decay differs by channel and state, so that a state that enters late could only
/// be added at the cost of another scan: the piece is scanned from zero for the state it ends in, and again
/// from the state that enters it.
at::Tensor selective_scan_along_rows(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                                     const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                                     const Documents& documents);

}  // namespace dm::kernels
