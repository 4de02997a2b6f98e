#include "kernels/norm/norm_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/norm/cuda/norm_cuda.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

float* data_or_null(const at::Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

cuda::NormInputs inputs_of(const at::Tensor& rows, cuda::Element y, const at::Tensor& weight,
                           const at::Tensor& bias, double eps) {
  return {.rows = rows.size(0),
          .width = rows.size(1),
          .x_element = element_of(rows),
          .y_element = y,
          .x = rows.const_data_ptr(),
          .weight = weight.const_data_ptr<float>(),
          .bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr,
          .eps = static_cast<float>(eps),
          .x_stride = rows.stride(0)};
}

class Norm : public torch::autograd::Function<Norm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, double eps, at::ScalarType dtype) {
    const at::Tensor rows = dense_matrix(x), dense_weight = weight.contiguous();
    const at::Tensor dense_bias = bias ? bias->contiguous() : at::Tensor();
    at::Tensor y = at::empty(x.sizes(), x.options().dtype(dtype)),
               root = at::empty({rows.size(0)}, weight.options());
    at::Tensor mean = bias ? at::empty_like(root) : at::Tensor();
    cuda::NormForward args{inputs_of(rows, element_of(y), dense_weight, dense_bias, eps)};
    args.y = y.data_ptr();
    args.mean = data_or_null(mean);
    args.root = root.data_ptr<float>();
    check_launch(cuda::norm_forward(args, current_stream()), "norm");
    context->save_for_backward({rows, dense_weight, dense_bias, mean, root});
    context->saved_data["shape"] = x.sizes();
    context->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &weight = saved[1], &bias = saved[2], &mean = saved[3],
                     &root = saved[4];
    const at::Tensor dy = dense_matrix(grads[0]);
    at::Tensor dx = at::empty(context->saved_data["shape"].toIntVector(), rows.options());
    at::Tensor dweight = at::empty_like(weight);
    at::Tensor dbias = bias.defined() ? at::empty_like(bias) : at::Tensor();
    cuda::NormBackward args{
        inputs_of(rows, element_of(dy), weight, bias, context->saved_data["eps"].toDouble())};
    const at::Tensor workspace = device_bytes(cuda::norm_workspace_bytes(args.in), rows);
    args.mean = data_or_null(mean);
    args.root = root.const_data_ptr<float>();
    args.dy = dy.const_data_ptr();
    args.workspace = workspace.data_ptr();
    args.dx = dx.data_ptr();
    args.dweight = dweight.data_ptr<float>();
    args.dbias = data_or_null(dbias);
    args.dy_stride = dy.stride(0);
    check_launch(cuda::norm_backward(args, current_stream()), "norm, backward");
    return {dx, dweight, dbias, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor norm_cuda(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                     double eps, at::ScalarType dtype) {
  return Norm::apply(x, weight, bias, eps, dtype);
}

}  // namespace dm::kernels
