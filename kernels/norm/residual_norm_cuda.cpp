#include "kernels/norm/residual_norm_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/norm/cuda/norm_cuda.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Contiguous and aligned as the kernels want it; a copy where `t` is not.
at::Tensor packed(const at::Tensor& t) {
  const bool aligned = reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0;
  return aligned ? t.contiguous() : t.clone(at::MemoryFormat::Contiguous);
}

const void* data_or_null(const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }

/// h: of the stream, for its dtype.
cuda::ResidualNormInputs inputs_of(const at::Tensor& h, const at::Tensor& y, const at::Tensor& subln,
                                   const at::Tensor& weight, double eps) {
  const int64_t width = y.size(-1);
  return {.rows = y.numel() / width,
          .width = width,
          .stream = element_of(h),
          .element = element_of(y),
          .y = y.const_data_ptr(),
          .subln = static_cast<const float*>(data_or_null(subln)),
          .weight = weight.const_data_ptr<float>(),
          .eps = static_cast<float>(eps)};
}

class ResidualNormPass : public torch::autograd::Function<ResidualNormPass> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& h, const at::Tensor& y,
                               const std::optional<at::Tensor>& subln, const at::Tensor& weight, double eps) {
    const at::Tensor dense_h = packed(h), dense_y = packed(y), dense_weight = packed(weight);
    const at::Tensor dense_subln = subln ? packed(*subln) : at::Tensor();
    at::Tensor h_next = at::empty(h.sizes(), h.options()), u = at::empty(y.sizes(), y.options());
    cuda::ResidualNormForward args{inputs_of(h, dense_y, dense_subln, dense_weight, eps)};
    at::Tensor roots = at::empty({2, args.in.rows}, weight.options());
    args.h = dense_h.const_data_ptr();
    args.h_next = h_next.data_ptr();
    args.u = u.data_ptr();
    args.root = roots.data_ptr<float>();
    args.root_of_y = args.root + args.in.rows;
    check_launch(cuda::residual_norm_forward(args, current_stream()), "residual_norm");
    context->save_for_backward({h_next, dense_y, dense_subln, dense_weight, roots});
    context->saved_data["eps"] = eps;
    context->set_materialize_grads(false);
    return {h_next, u};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &h_next = saved[0], &y = saved[1], &subln = saved[2], &weight = saved[3],
                     &roots = saved[4];
    const at::Tensor dh_next = grads[0].defined() ? packed(grads[0]) : at::Tensor(),
                     du = grads[1].defined() ? packed(grads[1]) : at::Tensor();
    at::Tensor dh = at::empty(h_next.sizes(), h_next.options()), dy = at::empty(y.sizes(), y.options());
    at::Tensor dweight = at::empty_like(weight),
               dsubln = subln.defined() ? at::empty_like(subln) : at::Tensor();
    cuda::ResidualNormBackward args{
        inputs_of(h_next, y, subln, weight, context->saved_data["eps"].toDouble())};
    const at::Tensor workspace = device_bytes(cuda::residual_norm_workspace_bytes(args.in), y);
    args.h_next = h_next.const_data_ptr();
    args.root = roots.const_data_ptr<float>();
    args.root_of_y = args.root + args.in.rows;
    args.dh_next = data_or_null(dh_next);
    args.du = data_or_null(du);
    args.workspace = workspace.data_ptr();
    args.dh = dh.data_ptr();
    args.dy = dy.data_ptr();
    args.dweight = dweight.data_ptr<float>();
    args.dsubln = dsubln.defined() ? dsubln.data_ptr<float>() : nullptr;
    check_launch(cuda::residual_norm_backward(args, current_stream()), "residual_norm, backward");
    return {dh, dy, dsubln, dweight, at::Tensor()};
  }
};

}  // namespace

bool residual_norm_fuses(const at::Tensor& h, const at::Tensor& y) {
  if (!y.is_cuda()) return false;
  // The weights and copies of unaligned tensors are aligned.
  return cuda::residual_norm_serves({.rows = 1,
                                     .width = y.size(-1),
                                     .stream = element_of(h),
                                     .element = element_of(y),
                                     .y = nullptr,
                                     .subln = nullptr,
                                     .weight = nullptr,
                                     .eps = 0.f});
}

ResidualNorm residual_norm_cuda(const at::Tensor& h, const at::Tensor& y,
                                const std::optional<at::Tensor>& subln, const at::Tensor& weight,
                                double eps) {
  const variable_list results = ResidualNormPass::apply(h, y, subln, weight, eps);
  return {results[0], results[1]};
}

}  // namespace dm::kernels
