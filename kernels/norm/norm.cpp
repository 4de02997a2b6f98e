// The tensor boundary of the norms: checks, strides, autograd. The work is in norm_simd.cpp; that on GPU
// tensors begins in norm_cuda.cpp.

#include "kernels/norm/norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/norm/norm_cpu.h"
#include "kernels/norm/norm_cuda.h"
#include "kernels/shares.h"
#include "kernels/simd/scratch.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T>
NormInput<T> norm_input(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& bias,
                        double eps) {
  return {rows.size(0),
          rows.size(1),
          rows.const_data_ptr<T>(),
          rows.stride(0),
          weight.const_data_ptr<T>(),
          bias.defined() ? bias.const_data_ptr<T>() : nullptr,
          eps};
}

/// layer_norm, or rms_norm where there is no bias.
class Norm : public torch::autograd::Function<Norm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, double eps) {
    const at::Tensor rows = dense_matrix(x), dense_weight = weight.contiguous();
    const at::Tensor dense_bias = bias ? bias->contiguous() : at::Tensor();
    at::Tensor y = at::empty(x.sizes(), x.options()), root = at::empty({rows.size(0)}, x.options());
    at::Tensor mean = bias ? at::empty_like(root) : at::Tensor();
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "norm", [&] {
      using T = scalar_t;
      const NormInput<T> in = norm_input<T>(rows, dense_weight, dense_bias, eps);
      T *to = y.data_ptr<T>(), *roots = root.data_ptr<T>(),
        *means = mean.defined() ? mean.data_ptr<T>() : nullptr;
      parallel_for(in.blocks(), [&](int64_t block) {
        DM_SIMD_CALL(norm_forward_task<T>)(in, to, means, roots, block);
      });
    });
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
    at::Tensor sums = at::empty({2, rows.size(1)}, rows.options());  // dweight, dbias
    AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "norm", [&] {
      using T = scalar_t;
      const NormInput<T> in = norm_input<T>(rows, weight, bias, context->saved_data["eps"].toDouble());
      const at::Tensor shares = at::empty({in.blocks(), 2 * in.width}, rows.options().dtype(at::kDouble));
      const NormGradient<T> grad{
          dy.const_data_ptr<T>(),   dy.stride(0),     mean.defined() ? mean.const_data_ptr<T>() : nullptr,
          root.const_data_ptr<T>(), dx.data_ptr<T>(), shares.data_ptr<double>()};
      parallel_for(in.blocks(), [&](int64_t block) {
        DM_SIMD_CALL(norm_backward_task<T>)(in, grad, block, scratch<T>(2 * in.width));
      });
      sum_shares(shares.const_data_ptr<double>(), in.blocks(), 2 * in.width, sums.data_ptr<T>());
    });
    return {dx, sums[0], bias.defined() ? sums[1] : at::Tensor(), at::Tensor()};
  }
};

/// The checks of both; without a bias rms_norm.
at::Tensor checked(const char* operation, const at::Tensor& x, const at::Tensor& weight,
                   const std::optional<at::Tensor>& bias, double eps, std::optional<at::ScalarType> dtype) {
  DM_CHECK_FLOATING(operation, x);
  DM_CHECK(x.dim() >= 1, "{}: x is a scalar, expected [.., D]", operation);
  DM_CHECK_SHAPE(operation, weight, parameter_dtype(x), x.size(-1));
  if (bias) DM_CHECK_SHAPE(operation, *bias, parameter_dtype(x), x.size(-1));
  if (x.is_cuda()) return norm_cuda(x, weight, bias, eps, dtype.value_or(x.scalar_type()));
  return Norm::apply(x, weight, bias, eps).to(dtype.value_or(x.scalar_type()));
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    std::optional<at::ScalarType> dtype) {
  return checked("rms_norm", x, weight, std::nullopt, eps, dtype);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                      std::optional<at::ScalarType> dtype) {
  return checked("layer_norm", x, weight, bias, eps, dtype);
}

}  // namespace dm::kernels
