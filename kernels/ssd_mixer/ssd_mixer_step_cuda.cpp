#include <ATen/ATen.h>

#include "kernels/decode/decode_chain_cuda.h"
#include "kernels/device/cuda/tensor.h"
#include "kernels/linear/linear.h"
#include "kernels/ssd_mixer/ssd_mixer_cuda.h"

namespace dm::kernels {

std::optional<at::Tensor> ssd_mixer_step_cuda(const at::Tensor& projected, const SsdMixerWeights& w,
                                              const std::optional<at::Tensor>& scale, SsdMixerState& state,
                                              const SsdMixerForm& form, const Weight& out_proj,
                                              DecodeChain& chain) {
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
  const int64_t rows = projected.size(0), width = form.branches * form.inner,
                sections = scale ? factors.size(-1) : 0;
  const auto narrow = [](int64_t size) { return static_cast<int>(size); };
  cuda::MixerProduct stage{
      .projected = projected.const_data_ptr(),
      .projected_mail = nullptr,
      .conv_weight = conv_weight.const_data_ptr<float>(),
      .conv_bias = conv_bias.const_data_ptr<float>(),
      .dt_bias = dt_bias.const_data_ptr<float>(),
      .a = a.const_data_ptr<float>(),
      .d = d.const_data_ptr<float>(),
      .norm = norm.const_data_ptr<float>(),
      .scale = scale ? factors.const_data_ptr<float>() : nullptr,
      .window = state.window.mutable_data_ptr(),
      .state = state.state.mutable_data_ptr<float>(),
      .y_mail = nullptr,
      .product = nullptr,
      .product_mail = nullptr,
      .matrix = {matrix.const_data_ptr(), narrow(matrix.stride(0)), narrow(matrix.size(0)), narrow(width)},
      .rows = narrow(rows),
      .branches = narrow(form.branches),
      .inner = narrow(form.inner),
      .heads = narrow(form.heads),
      .groups = narrow(form.groups),
      .states = narrow(form.d_state),
      .head_dim = narrow(form.inner / form.heads),
      .group_heads = narrow(form.heads / form.groups),
      .projected_stride = narrow(projected.stride(0)),
      .product_stride = narrow(matrix.size(0)),
      .spans = narrow(form.spans),
      .sections = narrow(sections),
      .scale_by_token = scale && factors.numel() != sections,
      .dt_min = static_cast<float>(form.dt_min),
      .dt_max = static_cast<float>(form.dt_max),
      .eps = static_cast<float>(form.eps)};
  // More rows than the chain's products take: the gated norm there, and a product of the library.
  const bool apart = !cuda::decode_serves(stage);
  if (apart) stage.matrix = {}, stage.product_stride = narrow(width);
  if (!cuda::decode_serves(stage)) return std::nullopt;
  DecodeChain::Impl& queue = chain.impl();
  stage.projected_mail = queue.mail_of(projected);
  at::Tensor product = at::empty({rows, stage.product_stride}, projected.options());
  stage.product = product.mutable_data_ptr();
  stage.y_mail = queue.mail(rows * width / 2, projected);
  if (!apart) stage.product_mail = queue.mail(rows * stage.product_stride / 2, projected);
  queue.add(cuda::DecodeStage(stage), product, stage.product_mail,
            {projected, conv_weight, conv_bias, dt_bias, a, d, norm, factors, state.window, state.state,
             product, matrix});
  if (!apart) return product;
  chain.run();
  return linear(product, out_proj);
}

}  // namespace dm::kernels
