#pragma once

#include "kernels/adamw/adamw.h"

namespace dm::kernels {

/// adamw() as the formulas of kernels/adamw/adamw.h stand, in float64, element after element.
void adamw_reference(double* weight, double* m, double* v, const double* grad, int64_t count,
                     const AdamWStep& step);

}  // namespace dm::kernels
