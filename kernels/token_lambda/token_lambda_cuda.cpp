#include "kernels/token_lambda/token_lambda_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/token_lambda/cuda/token_lambda.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// `columns` with rows at one distance.
bool rows_follow(const at::Tensor& columns) {
  if (columns.stride(-1) != 1) return false;
  for (int64_t dim = columns.dim() - 2; dim > 0; --dim)
    if (columns.stride(dim - 1) != columns.size(dim) * columns.stride(dim)) return false;
  return columns.dim() >= 2;
}

/// [.., width + n] in the memory of `first` [.., width], where its rows are `stride` apart and that memory is
/// there; else newly made, `first` copied.
at::Tensor with_room(const at::Tensor& first, int64_t columns, int64_t stride) {
  std::vector<int64_t> shape = first.sizes().vec();
  shape.back() = columns;
  const int64_t rows = first.numel() / first.size(-1);
  const bool room = rows_follow(first) && first.stride(-2) == stride && first.storage_offset() == 0 &&
                    static_cast<int64_t>(first.storage().nbytes()) >=
                        rows * stride * static_cast<int64_t>(first.element_size());
  if (room) return first.as_strided(shape, first.strides());
  const at::Tensor whole = at::empty(shape, first.options());
  whole.narrow(-1, 0, first.size(-1)).copy_(first);
  return whole;
}

class TokenLambdaFunction : public torch::autograd::Function<TokenLambdaFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& columns, int64_t width,
                               const at::Tensor& bias, bool first) {
    const at::Tensor from = rows_follow(columns) ? columns : columns.contiguous();
    const at::Tensor lambda = from.narrow(-1, width, bias.size(0));
    const cuda::TokenLambdaShape shape{from.numel() / from.size(-1), bias.size(0), first, element_of(from)};
    std::vector<int64_t> sizes = from.sizes().vec();
    sizes.back() = shape.sections();
    const at::Tensor dense_bias = bias.contiguous(), sections = at::empty(sizes, bias.options());
    const int64_t stride = from.stride(-2);
    check_launch(
        cuda::token_lambda(shape, lambda.const_data_ptr(), stride, dense_bias.const_data_ptr<float>(),
                           sections.mutable_data_ptr<float>(), current_stream()),
        "token_lambda");
    context->save_for_backward({sections});
    context->saved_data["stride"] = stride;
    context->saved_data["first"] = first;
    context->saved_data["lambdas"] = shape.count;
    return {from.narrow(-1, 0, width), sections};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor sections = context->get_saved_variables()[0];
    const at::Tensor &first = grads[0], dsections = grads[1].contiguous();
    const int64_t count = context->saved_data["lambdas"].toInt(), width = first.size(-1);
    const at::Tensor whole = with_room(first, width + count, context->saved_data["stride"].toInt());
    const at::Tensor lambda = whole.narrow(-1, width, count);
    const cuda::TokenLambdaShape shape{whole.numel() / (width + count), count,
                                       context->saved_data["first"].toBool(), element_of(whole)};
    const at::Tensor dbias = at::empty({count}, sections.options()),
                     parts = at::empty({cuda::token_lambda_parts(shape)}, sections.options());
    check_launch(cuda::token_lambda_backward(shape, sections.const_data_ptr<float>(),
                                             dsections.const_data_ptr<float>(), lambda.mutable_data_ptr(),
                                             whole.stride(-2), dbias.mutable_data_ptr<float>(),
                                             parts.mutable_data_ptr<float>(), current_stream()),
                 "token_lambda, backward");
    return {whole, at::Tensor(), dbias, at::Tensor()};
  }
};

}  // namespace

TokenLambda token_lambda_cuda(const at::Tensor& columns, int64_t width, const at::Tensor& bias, bool first) {
  const variable_list results = TokenLambdaFunction::apply(columns, width, bias, first);
  return {results[0], results[1]};
}

}  // namespace dm::kernels
