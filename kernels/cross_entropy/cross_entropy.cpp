#include "kernels/cross_entropy/cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/cross_entropy/cross_entropy_cpu.h"
#include "kernels/cross_entropy/cross_entropy_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The losses of rows [begin, begin + logits.size(0)); with `gradient` the logits become their gradients.
template <class T>
void losses(at::Tensor& logits, int64_t begin, const int64_t* targets, const uint8_t* mask, bool gradient,
            double* nll) {
  const int64_t vocabulary = logits.size(1);
  T* rows = logits.data_ptr<T>();
  parallel_for(logits.size(0), [&](int64_t i) {
    const int64_t t = begin + i;
    T* row = rows + i * vocabulary;
    nll[t] = mask[t] ? DM_SIMD_CALL(cross_entropy_row<T>)(row, vocabulary, targets[t], gradient) : 0;
    if (!mask[t] && gradient) std::fill(row, row + vocabulary, T(0));
  });
}

class Loss : public torch::autograd::Function<Loss> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& h, const at::Tensor& weight,
                               const at::Tensor& targets, const at::Tensor& mask, bool gradient) {
    const int64_t tokens = h.size(0), vocabulary = weight.size(0);
    const int64_t block = cross_entropy_block_rows(vocabulary, static_cast<int64_t>(h.element_size()));
    const at::Tensor nll = at::empty({tokens}, h.options().dtype(at::kDouble));
    at::Tensor dh = gradient ? at::empty(h.sizes(), h.options()) : at::Tensor();
    at::Tensor dweight = gradient ? at::zeros(weight.sizes(), weight.options()) : at::Tensor();
    double* losses_to = nll.data_ptr<double>();
    for (int64_t begin = 0; begin < tokens; begin += block) {
      const int64_t end = std::min(tokens, begin + block);
      const at::Tensor rows = h.slice(0, begin, end);
      at::Tensor logits = at::mm(rows, weight.t());
      AT_DISPATCH_FLOATING_TYPES(h.scalar_type(), "linear_cross_entropy", [&] {
        losses<scalar_t>(logits, begin, targets.const_data_ptr<int64_t>(), mask.const_data_ptr<uint8_t>(),
                         gradient, losses_to);
      });
      if (!gradient) continue;
      at::Tensor dh_rows = dh.slice(0, begin, end);
      at::mm_out(dh_rows, logits, weight);
      dweight.addmm_(logits.t(), rows);
    }
    double sum = 0;
    for (int64_t t = 0; t < tokens; ++t) sum += losses_to[t];
    context->save_for_backward({dh, dweight});
    const at::Tensor per_target = nll.to(h.scalar_type());
    context->mark_non_differentiable({per_target});
    return {at::scalar_tensor(sum, h.options()), per_target};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    DM_CHECK(saved[0].defined(),
             "linear_cross_entropy: a gradient is asked for that the forward pass was not told of");
    return {saved[0] * grads[0], saved[1] * grads[0], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

int64_t cross_entropy_block_rows(int64_t vocabulary, int64_t element_bytes) {
  return std::clamp<int64_t>((16 << 20) / (vocabulary * element_bytes), 128, 1024);
}

CrossEntropy linear_cross_entropy(const at::Tensor& h, const Weight& weights, const at::Tensor& targets,
                                  const at::Tensor& mask) {
  const at::Tensor& weight = weights.value;
  DM_CHECK_FLOATING("linear_cross_entropy", h);
  DM_CHECK_SHAPE("linear_cross_entropy", h, h.scalar_type(), -1, -1);
  DM_CHECK_SHAPE("linear_cross_entropy", weight, h.scalar_type(), -1, h.size(1));
  DM_CHECK_SHAPE("linear_cross_entropy", targets, at::kLong, h.size(0));
  DM_CHECK_SHAPE("linear_cross_entropy", mask, at::kByte, h.size(0));
  const at::Tensor dense_targets = targets.contiguous(), dense_mask = mask.contiguous();
  if (h.is_cuda()) return linear_cross_entropy_cuda(h, weights, dense_targets, dense_mask);
  DM_CHECK(weights.parts.empty(),
           "linear_cross_entropy: on the CPU gradients of weights go through autograd");
  const int64_t* target = dense_targets.const_data_ptr<int64_t>();
  const uint8_t* counts = dense_mask.const_data_ptr<uint8_t>();
  for (int64_t t = 0; t < h.size(0); ++t)
    DM_CHECK(!counts[t] || (target[t] >= 0 && target[t] < weight.size(0)),
             "linear_cross_entropy: target {} at {} is not in [0, {})", target[t], t, weight.size(0));
  const bool gradient = at::GradMode::is_enabled() && (h.requires_grad() || weight.requires_grad());
  const variable_list out = Loss::apply(h, weight, dense_targets, dense_mask, gradient);
  return {out[0], out[1]};
}

}  // namespace dm::kernels
