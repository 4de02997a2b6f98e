#include "kernels/cross_entropy/cross_entropy_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/cross_entropy/cuda/cross_entropy_cuda.cuh"
#include "kernels/device/cuda/tensor.h"
#include "kernels/linear/gemm_cuda.h"
#include "kernels/linear/linear_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kName[] = "linear_cross_entropy";

/// Logits, and after them their gradients, of one block of rows after another. Rows start at multiples of 128
/// bytes, whatever V is.
class LogitBlocks {
 public:
  LogitBlocks(const at::Tensor& h, int64_t vocabulary) : vocabulary_(vocabulary) {
    const int64_t elements = 128 / h.element_size();
    const int64_t stride = (vocabulary + elements - 1) / elements * elements;
    // Many rows make the products efficient, above all dweight, which reads and writes [V, D] once a block.
    const int64_t fitting = (int64_t{256} << 20) / (stride * h.element_size()) / 128 * 128;
    rows_ = std::min(std::max<int64_t>(fitting, 128), h.size(0));
    memory_ = at::empty({rows_, stride}, h.options());
  }
  int64_t rows() const { return rows_; }
  at::Tensor first(int64_t rows) const { return memory_.slice(0, 0, rows).slice(1, 0, vocabulary_); }

 private:
  int64_t vocabulary_, rows_;
  at::Tensor memory_;
};

void losses(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& mask, bool gradient,
            const at::Tensor& nll) {
  check_launch(cuda::cross_entropy_rows({.rows = logits.size(0),
                                         .vocabulary = logits.size(1),
                                         .stride = logits.stride(0),
                                         .element = element_of(logits),
                                         .logits = logits.mutable_data_ptr(),
                                         .targets = targets.const_data_ptr<int64_t>(),
                                         .mask = mask.const_data_ptr<uint8_t>(),
                                         .gradient = gradient,
                                         .nll = nll.mutable_data_ptr<float>()},
                                        current_stream()),
               kName);
}

struct Result {
  at::Tensor sum, nll;
  at::Tensor dh;       // undefined where not asked for
  at::Tensor dweight;  // likewise, or where it was added to the weight's parts
};

Result evaluate(const at::Tensor& h, const Weight& weight, const at::Tensor& targets, const at::Tensor& mask,
                bool of_h, bool of_weight) {
  const int64_t tokens = h.size(0);
  const at::TensorOptions single = h.options().dtype(at::kFloat);
  Result result{at::empty({}, single), at::empty({tokens}, single), {}, {}};
  if (of_h) result.dh = at::empty(h.sizes(), h.options());
  if (of_weight && weight.parts.empty()) result.dweight = at::zeros(weight.value.sizes(), single);
  const LogitBlocks blocks(h, weight.value.size(0));
  for (int64_t begin = 0; begin < tokens; begin += blocks.rows()) {
    const int64_t end = std::min(tokens, begin + blocks.rows());
    const auto rows = [&](const at::Tensor& of) { return of.slice(0, begin, end); };
    const at::Tensor logits = blocks.first(end - begin);
    multiply_transposed(rows(h), weight.value, logits);
    losses(logits, rows(targets), rows(mask), of_h || of_weight, rows(result.nll));
    if (of_h) multiply(logits, weight.value, rows(result.dh));
    if (result.dweight.defined())
      add_outer_product({logits, rows(h), result.dweight});
    else if (of_weight)
      add_weight_gradient(logits, rows(h), weight);
  }
  check_launch(cuda::sum_losses(result.nll.const_data_ptr<float>(), tokens,
                                result.sum.mutable_data_ptr<float>(), current_stream()),
               kName);
  return result;
}

class Loss : public torch::autograd::Function<Loss> {
 public:
  /// `value` is weight.value, for autograd to see.
  static variable_list forward(AutogradContext* context, const at::Tensor& h, const at::Tensor& value,
                               const Weight* weight, const at::Tensor& targets, const at::Tensor& mask,
                               bool of_h, bool of_weight) {
    const Weight dense(dense_rows(value), weight->parts);
    Result result = evaluate(dense_rows(h), dense, targets, mask, of_h, of_weight);
    context->save_for_backward({result.dh, result.dweight});
    context->saved_data["scaled"] = weight->parts.empty();
    context->saved_data["dtype"] = value.scalar_type();
    context->mark_non_differentiable({result.nll});
    return {result.sum, result.nll};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    at::Tensor dh = saved[0], dweight = saved[1];
    if (context->saved_data["scaled"].toBool()) {
      if (dh.defined()) dh = (dh.to(at::kFloat) * grads[0]).to(dh.scalar_type());
      if (dweight.defined()) dweight = (dweight * grads[0]).to(context->saved_data["dtype"].toScalarType());
    }
    return {dh, dweight, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

CrossEntropy linear_cross_entropy_cuda(const at::Tensor& h, const Weight& weight, const at::Tensor& targets,
                                       const at::Tensor& mask) {
  const bool gradient = at::GradMode::is_enabled();
  const variable_list out =
      Loss::apply(h, weight.value, &weight, targets, mask, gradient && h.requires_grad(),
                  gradient && (weight.value.requires_grad() || !weight.parts.empty()));
  return {out[0], out[1]};
}

}  // namespace dm::kernels
