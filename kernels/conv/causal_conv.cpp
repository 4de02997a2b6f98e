// The tensor boundary of the causal convolution: checks, strides, autograd. The work is in
// causal_conv_simd.cpp; that on GPU tensors begins in causal_conv_cuda.cpp.

#include "kernels/conv/causal_conv.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/conv/causal_conv_cpu.h"
#include "kernels/conv/causal_conv_cuda.h"
#include "kernels/conv/conv_step_cuda.h"
#include "kernels/shares.h"
#include "kernels/simd/scratch.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Problem {
  at::Tensor x, taps, bias, seq_idx, initial;  // initial may be undefined

  template <class T>
  ConvInput<T> input() const {
    return {x.size(0),
            x.size(1),
            x.size(2),
            taps.size(0),
            x.const_data_ptr<T>(),
            x.stride(0),
            x.stride(1),
            taps.const_data_ptr<T>(),
            bias.const_data_ptr<T>(),
            seq_idx.const_data_ptr<int32_t>(),
            initial.defined() ? initial.const_data_ptr<T>() : nullptr};
  }
};

/// task(row, token block, channel block) for all, spread over the threads.
template <class T, class Task>
void for_blocks(const ConvInput<T>& in, const Task& task) {
  const int64_t channel_blocks = in.channel_blocks(), token_blocks = in.token_blocks();
  parallel_for(in.batch * token_blocks * channel_blocks, [&](int64_t i) {
    task(i / channel_blocks / token_blocks, i / channel_blocks % token_blocks, i % channel_blocks);
  });
}

class CausalConv : public torch::autograd::Function<CausalConv> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& seq_idx,
                            const std::optional<at::Tensor>& initial) {
    const Problem p{dense_rows(x), weight.t().contiguous(), bias.contiguous(), seq_idx.contiguous(),
                    initial ? initial->contiguous() : at::Tensor()};
    context->save_for_backward({p.x, p.taps, p.bias, p.seq_idx, p.initial});
    at::Tensor y = at::empty(x.sizes(), x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "causal_conv_silu", [&] {
      const ConvInput<scalar_t> in = p.input<scalar_t>();
      scalar_t* to = y.data_ptr<scalar_t>();
      for_blocks(in, [&](int64_t row, int64_t tokens, int64_t channels) {
        DM_SIMD_CALL(conv_forward_task<scalar_t>)(in, to, row, tokens, channels);
      });
    });
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p{saved[0], saved[1], saved[2], saved[3], saved[4]};
    const at::Tensor dy = dense_rows(grads[0]);
    at::Tensor dx = at::empty(p.x.sizes(), p.x.options());
    at::Tensor dinitial =
        p.initial.defined() ? at::empty(p.initial.sizes(), p.initial.options()) : at::Tensor();
    at::Tensor dtaps_bias = at::empty({p.taps.size(0) + 1, p.taps.size(1)}, p.taps.options());
    AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "causal_conv_silu", [&] {
      using T = scalar_t;
      const ConvInput<T> in = p.input<T>();
      const int64_t blocks = in.batch * in.token_blocks(), width = dtaps_bias.numel();
      const at::Tensor shares = at::empty({blocks, width}, p.x.options().dtype(at::kDouble));
      const ConvGradient<T> grad{dy.const_data_ptr<T>(),
                                 dy.stride(0),
                                 dy.stride(1),
                                 dx.data_ptr<T>(),
                                 dinitial.defined() ? dinitial.data_ptr<T>() : nullptr,
                                 shares.data_ptr<double>()};
      for_blocks(in, [&](int64_t row, int64_t tokens, int64_t channels) {
        DM_SIMD_CALL(conv_backward_task<T>)
        (in, grad, row, tokens, channels, scratch<T>((kConvTokens + in.width - 1) * kConvChannels));
      });
      sum_shares(shares.const_data_ptr<double>(), blocks, width, dtaps_bias.data_ptr<T>());
    });
    const at::Tensor dweight = dtaps_bias.slice(0, 0, p.taps.size(0)).t().contiguous();
    return {dx, dweight, dtaps_bias.select(0, p.taps.size(0)), at::Tensor(), dinitial};
  }
};

}  // namespace

at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial) {
  DM_CHECK_FLOATING("causal_conv_silu", x);
  const at::ScalarType dtype = x.scalar_type();
  DM_CHECK_SHAPE("causal_conv_silu", x, dtype, -1, -1, -1);
  const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2);
  DM_CHECK_SHAPE("causal_conv_silu", weight, parameter_dtype(x), channels, -1);
  const int64_t width = weight.size(1);
  DM_CHECK(length >= 1 && width >= 1,
           "causal_conv_silu: x is {} and weight {}: there must be a token and a tap", describe(x),
           describe(weight));
  DM_CHECK_SHAPE("causal_conv_silu", bias, parameter_dtype(x), channels);
  DM_CHECK_SHAPE("causal_conv_silu", seq_idx, at::kInt, batch, length);
  if (initial) DM_CHECK_SHAPE("causal_conv_silu", *initial, dtype, batch, width - 1, channels);
  if (x.is_cuda()) return causal_conv_silu_cuda(x, weight, bias, seq_idx, initial);
  return CausalConv::apply(x, weight, bias, seq_idx, initial);
}

at::Tensor causal_conv_step(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            at::Tensor& window) {
  const at::NoGradGuard no_grad;
  if (x.is_cuda()) return causal_conv_step_cuda(x, weight, bias, window);
  const at::Tensor seq_idx = at::zeros({x.size(0), 1}, at::kInt);
  const at::Tensor y = causal_conv_silu(x.unsqueeze(1), weight, bias, seq_idx, window).squeeze(1);
  window.copy_(at::cat({window, x.unsqueeze(1)}, 1).slice(1, 1));
  return y;
}

}  // namespace dm::kernels
