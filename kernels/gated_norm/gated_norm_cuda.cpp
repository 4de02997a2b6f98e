#include "kernels/gated_norm/gated_norm_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/gated_norm/cuda/gated_norm_cuda.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// `scale` as the kernels take it: [S] where it is the same for all tokens, else [B, L, S].
at::Tensor dense_scale(const at::Tensor& scale, int64_t batch, int64_t length) {
  const int64_t sections = scale.size(-1);
  if (scale.numel() == sections) return scale.reshape({sections}).contiguous();
  return scale.expand({batch, length, sections}).contiguous();
}

cuda::GatedNormInputs inputs_of(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight,
                                const at::Tensor& scale, int64_t spans, double eps) {
  const int64_t width = y.size(2);
  return {.tokens = y.size(0) * y.size(1),
          .branches = 1,
          .inner = width,
          .spans = spans,
          .sections = scale.defined() ? scale.size(-1) : 0,
          .scale_by_token = scale.defined() && scale.dim() > 1,
          .element = element_of(y),
          .y = y.const_data_ptr(),
          .z = z.const_data_ptr(),
          .weight = weight.const_data_ptr<float>(),
          .scale = scale.defined() ? scale.const_data_ptr<float>() : nullptr,
          .eps = static_cast<float>(eps),
          .z_stride = width,
          .z_branch_stride = 0};
}

class GatedNorm : public torch::autograd::Function<GatedNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, const at::Tensor& z,
                            const at::Tensor& weight, int64_t spans, const std::optional<at::Tensor>& scale,
                            double eps) {
    const at::Tensor dense_y = y.contiguous(), dense_z = z.contiguous(), dense_weight = weight.contiguous();
    const at::Tensor factors = scale ? dense_scale(*scale, y.size(0), y.size(1)) : at::Tensor();
    at::Tensor out = at::empty(y.sizes(), y.options()),
               root = at::empty({y.size(0) * y.size(1), spans}, weight.options());
    const cuda::GatedNormForward args{inputs_of(dense_y, dense_z, dense_weight, factors, spans, eps),
                                      out.data_ptr(), root.data_ptr<float>()};
    check_launch(cuda::gated_norm_forward(args, current_stream()), "gated_norm");
    context->save_for_backward({dense_y, dense_z, dense_weight, factors, root});
    context->saved_data["spans"] = spans;
    context->saved_data["eps"] = eps;
    if (scale) context->saved_data["scale"] = scale->sizes();
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &y = saved[0], &z = saved[1], &weight = saved[2], &scale = saved[3], &root = saved[4];
    const at::Tensor dout = grads[0].contiguous();
    at::Tensor dy = at::empty(y.sizes(), y.options()), dz = at::empty_like(dy);
    at::Tensor dweight = at::empty_like(weight), dscale = scale.defined() ? at::empty_like(scale) : scale;
    cuda::GatedNormBackward args{inputs_of(y, z, weight, scale, context->saved_data["spans"].toInt(),
                                           context->saved_data["eps"].toDouble())};
    const at::Tensor workspace = device_bytes(cuda::gated_norm_workspace_bytes(args.in), y);
    args.root = root.const_data_ptr<float>();
    args.dout = dout.const_data_ptr();
    args.workspace = workspace.data_ptr();
    args.dy = dy.data_ptr();
    args.dz = dz.data_ptr();
    args.dweight = dweight.data_ptr<float>();
    args.dscale = dscale.defined() ? dscale.data_ptr<float>() : nullptr;
    check_launch(cuda::gated_norm_backward(args, current_stream()), "gated_norm, backward");
    if (scale.defined()) {
      const std::vector<int64_t> shape = context->saved_data["scale"].toIntVector();
      dscale = args.in.scale_by_token ? dscale.sum_to_size(shape) : dscale.reshape(shape);
    }
    return {dy, dz, dweight, at::Tensor(), dscale, at::Tensor()};
  }
};

}  // namespace

at::Tensor gated_norm_cuda(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight, int64_t spans,
                           const std::optional<at::Tensor>& scale, double eps) {
  return GatedNorm::apply(y, z, weight, spans, scale, eps);
}

}  // namespace dm::kernels
