#include "kernels/conv/conv_step_cuda.h"

#include "kernels/conv/cuda/step.cuh"
#include "kernels/device/cuda/rows_of.h"

namespace dm::kernels {

at::Tensor causal_conv_step_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 at::Tensor& window) {
  DM_CHECK_FLOATING("causal_conv_step", x);
  DM_CHECK_FLOATING("causal_conv_step", window);
  DM_CHECK_SHAPE("causal_conv_step", x, x.scalar_type(), -1, -1);
  DM_CHECK_SHAPE("causal_conv_step", weight, at::kFloat, x.size(1), -1);
  DM_CHECK_SHAPE("causal_conv_step", bias, at::kFloat, x.size(1));
  DM_CHECK_SHAPE("causal_conv_step", window, window.scalar_type(), x.size(0), weight.size(1) - 1, x.size(1));
  DM_CHECK(window.is_contiguous(), "causal_conv_step: window is not contiguous; it is updated in place");
  const DenseRows xs(x);
  const at::Tensor dense_weight = weight.contiguous(), dense_bias = bias.contiguous(),
                   y = at::empty(x.sizes(), x.options());
  check_launch(cuda::conv_step({.rows = x.size(0),
                                .channels = x.size(1),
                                .width = weight.size(1),
                                .x = xs.rows(),
                                .weight = dense_weight.const_data_ptr<float>(),
                                .bias = dense_bias.const_data_ptr<float>(),
                                .window = window.mutable_data_ptr(),
                                .window_element = element_of(window),
                                .y = y.mutable_data_ptr()},
                               current_stream()),
               "causal_conv_step");
  return y;
}

}  // namespace dm::kernels
