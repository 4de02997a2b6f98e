#pragma once
// AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), with the
// bias correction and the order of operations of torch.optim.AdamW.
//
//   g = grad_scale * grad
//   w ← w (1 - lr weight_decay)
//   m ← beta1 m + (1 - beta1) g
//   v ← beta2 v + (1 - beta2) g²
//   w ← w - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)

#include <cstdint>

namespace dm::kernels {

struct AdamWStep {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;  // 0 for parameters without decay
  double grad_scale;    // of clipping and averaging; 1 leaves the gradient as it is
  int64_t step;         // 1 for the first
};

/// Updates weight, m and v, `count` elements each, in place. T is float or double. Each element's result
/// depends on that element alone: the same bits wherever the array is cut, for every number of threads and at
/// every DM_CPU_LEVEL.
template <class T>
void adamw(T* weight, T* m, T* v, const T* grad, int64_t count, const AdamWStep& step);

}  // namespace dm::kernels
