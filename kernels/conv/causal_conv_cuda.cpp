#include "kernels/conv/causal_conv_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/conv/cuda/conv_cuda.cuh"
#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t token_stride(const at::Tensor& x) { return x.size(1) == 1 ? x.stride(0) : x.stride(1); }

struct Problem {
  at::Tensor x, weight, bias, seq_idx, initial;  // initial may be undefined

  /// A plain convolution: one branch of x alone.
  cuda::ConvInputs inputs() const {
    const int64_t channels = x.size(2);
    return {.rows = x.size(0),
            .length = x.size(1),
            .columns = {.branches = 1,
                        .branch_stride = 0,
                        .x_offset = 0,
                        .dt_offset = 0,
                        .inner = channels,
                        .group_width = 0,
                        .heads = 0},
            .element = element_of(x),
            .width = weight.size(1),
            .projected = x.const_data_ptr(),
            .weight = weight.const_data_ptr<float>(),
            .bias = bias.const_data_ptr<float>(),
            .dt_bias = nullptr,
            .dt_min = 0.f,
            .dt_max = 0.f,
            .seq_idx = seq_idx.const_data_ptr<int32_t>(),
            .initial = initial.defined() ? initial.const_data_ptr() : nullptr,
            .projected_stride = token_stride(x)};
  }
};

class CausalConv : public torch::autograd::Function<CausalConv> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& seq_idx,
                            const std::optional<at::Tensor>& initial) {
    const Problem p{as_columns(x), weight.contiguous(), bias.contiguous(), seq_idx.contiguous(),
                    initial ? initial->contiguous() : at::Tensor()};
    context->save_for_backward({p.x, p.weight, p.bias, p.seq_idx, p.initial});
    at::Tensor y = at::empty(x.sizes(), x.options());
    check_launch(cuda::conv_forward({p.inputs(), y.data_ptr(), nullptr}, current_stream()),
                 "causal_conv_silu");
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p{saved[0], saved[1], saved[2], saved[3], saved[4]};
    const at::Tensor dy = grads[0].contiguous();
    cuda::ConvBackward args{p.inputs()};
    const int64_t stride = args.in.projected_stride;
    at::Tensor dx = at::empty_strided(p.x.sizes(), {p.x.size(1) * stride, stride, 1}, p.x.options());
    at::Tensor dweight = at::empty_like(p.weight), dbias = at::empty_like(p.bias);
    at::Tensor dinitial = p.initial.defined() ? at::empty_like(p.initial) : at::Tensor();
    const at::Tensor workspace = device_bytes(cuda::conv_workspace_bytes(args.in), p.x);
    args.dxbc = dy.const_data_ptr();
    args.workspace = workspace.data_ptr();
    args.dprojected = dx.data_ptr();
    args.dweight = dweight.data_ptr<float>();
    args.dbias = dbias.data_ptr<float>();
    args.dinitial = dinitial.defined() ? dinitial.data_ptr() : nullptr;
    check_launch(cuda::conv_backward(args, current_stream()), "causal_conv_silu, backward");
    return {dx, dweight, dbias, at::Tensor(), dinitial};
  }
};

}  // namespace

at::Tensor causal_conv_silu_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial) {
  return CausalConv::apply(x, weight, bias, seq_idx, initial);
}

}  // namespace dm::kernels
