#pragma once

namespace dm::kernels {

/// What becomes of the elements x of a parameter.
enum class VectorMap {
  same,          // x
  negative_exp,  // −exp(x): the decay rates of A_log
  scaled,        // factor x
  difference     // factor (1, −(σ(Σ x) + offset)): the sections of two branches, [2] of any x
};

}  // namespace dm::kernels
