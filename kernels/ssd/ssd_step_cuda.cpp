#include "kernels/ssd/ssd_step_cuda.h"

#include "kernels/device/cuda/rows_of.h"
#include "kernels/ssd/cuda/step.cuh"

namespace dm::kernels {

at::Tensor ssd_step_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                         const at::Tensor& c, const at::Tensor& d, at::Tensor& state) {
  const DenseRows xs(x), dts(dt), bs(b), cs(c);
  const at::Tensor dense_a = a.contiguous(), dense_d = d.contiguous(), y = at::empty(x.sizes(), x.options());
  check_launch(cuda::state_step({.rows = x.size(0),
                                 .heads = x.size(1),
                                 .head_dim = x.size(2),
                                 .groups = b.size(1),
                                 .states = b.size(2),
                                 .x = xs.rows(),
                                 .dt = dts.rows(),
                                 .b = bs.rows(),
                                 .c = cs.rows(),
                                 .a = dense_a.const_data_ptr<float>(),
                                 .a_by_state = false,
                                 .d = dense_d.const_data_ptr<float>(),
                                 .state = state.mutable_data_ptr<float>(),
                                 .y = y.mutable_data_ptr()},
                                current_stream()),
               "ssd_step");
  return y;
}

}  // namespace dm::kernels
