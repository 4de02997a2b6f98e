#include <ATen/ATen.h>

#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/device/cuda/tensor.h"
#include "kernels/linear/linear.h"
#include "kernels/ssd_mixer/ssd_mixer_cuda.h"

namespace dm::kernels {

std::optional<at::Tensor> ssd_mixer_step_cuda(const at::Tensor& projected, const SsdMixerWeights& w,
                                              const std::optional<at::Tensor>& scale, SsdMixerState& state,
                                              const SsdMixerForm& form, const Weight& out_proj) {
  const at::Tensor& matrix = out_proj.value;
  const bool dense = projected.stride(1) == 1 && matrix.stride(1) == 1 && state.window.is_contiguous() &&
                     state.state.is_contiguous();
  if (projected.scalar_type() != at::kBFloat16 || state.window.scalar_type() != at::kBFloat16 ||
      matrix.scalar_type() != at::kBFloat16 || w.conv_weight.size(1) != 4 || !dense)
    return std::nullopt;
  const at::Tensor conv_weight = w.conv_weight.contiguous(), conv_bias = w.conv_bias.contiguous(),
                   dt_bias = w.dt_bias.contiguous(), a = w.a.contiguous(), d = w.d.contiguous(),
                   norm = w.norm.contiguous();
  const at::Tensor factors = scale ? scale->to(at::kFloat).contiguous() : at::Tensor();
  const int64_t rows = projected.size(0), sections = scale ? factors.size(-1) : 0;
  cuda::MixerStep step{.rows = rows,
                       .branches = form.branches,
                       .inner = form.inner,
                       .heads = form.heads,
                       .groups = form.groups,
                       .states = form.d_state,
                       .projected = projected.const_data_ptr(),
                       .projected_stride = projected.stride(0),
                       .conv_weight = conv_weight.const_data_ptr<float>(),
                       .conv_bias = conv_bias.const_data_ptr<float>(),
                       .dt_bias = dt_bias.const_data_ptr<float>(),
                       .a = a.const_data_ptr<float>(),
                       .d = d.const_data_ptr<float>(),
                       .dt_min = static_cast<float>(form.dt_min),
                       .dt_max = static_cast<float>(form.dt_max),
                       .window = state.window.const_data_ptr(),
                       .state = state.state.mutable_data_ptr<float>(),
                       .y = nullptr};
  cuda::GateProduct gate{
      .step = step,
      .spans = form.spans,
      .sections = sections,
      .scale_by_token = scale && factors.numel() != sections,
      .norm = norm.const_data_ptr<float>(),
      .scale = scale ? factors.const_data_ptr<float>() : nullptr,
      .eps = static_cast<float>(form.eps),
      .matrix = {matrix.const_data_ptr(), matrix.stride(0), matrix.size(0), matrix.size(1)},
      .window = state.window.mutable_data_ptr(),
      .product = nullptr,
      .product_stride = matrix.size(0)};
  // More rows than one launch takes: the gated norm by itself, and a product of the library.
  const bool apart = !cuda::gate_product_serves(gate);
  if (apart) gate.matrix = {}, gate.product_stride = form.branches * form.inner;
  if (!cuda::mixer_step_serves(step) || !cuda::gate_product_serves(gate)) return std::nullopt;
  const at::Tensor y = at::empty({rows, form.branches * form.inner}, projected.options());
  at::Tensor product = at::empty({rows, gate.product_stride}, projected.options());
  step.y = gate.step.y = y.mutable_data_ptr();
  gate.product = product.mutable_data_ptr();
  check_launch(cuda::mixer_step(step, current_stream()), "ssd_mixer_step");
  check_launch(cuda::gate_product(gate, current_stream()), "ssd_mixer_step, gate");
  if (apart) return linear(product, out_proj);
  return product;
}

}  // namespace dm::kernels
