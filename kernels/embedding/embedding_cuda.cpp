#include "kernels/embedding/embedding_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "kernels/device/cuda/tensor.h"
#include "kernels/embedding/cuda/embedding_cuda.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class Embedding : public torch::autograd::Function<Embedding> {
 public:
  /// `gradient`: of the weight's one part.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& ids, const at::Tensor& weight,
                            const std::optional<at::Tensor>& gradient) {
    std::vector<int64_t> shape = ids.sizes().vec();
    shape.push_back(weight.size(1));
    at::Tensor y = at::empty(shape, weight.options());
    check_launch(cuda::embedding_forward({.tokens = ids.numel(),
                                          .vocabulary = weight.size(0),
                                          .width = weight.size(1),
                                          .element = element_of(weight),
                                          .ids = ids.const_data_ptr<int64_t>(),
                                          .weight = weight.const_data_ptr(),
                                          .y = y.mutable_data_ptr()},
                                         current_stream()),
                 "embedding");
    context->save_for_backward({ids});
    context->saved_data["gradient"] = gradient.value_or(at::Tensor());
    context->saved_data["vocabulary"] = weight.size(0);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor ids = context->get_saved_variables()[0], dy = grads[0].contiguous();
    const at::Tensor part = context->saved_data["gradient"].toTensor();
    const int64_t vocabulary = context->saved_data["vocabulary"].toInt(), width = dy.size(-1);
    at::Tensor dweight =
        part.defined() ? part : at::zeros({vocabulary, width}, dy.options().dtype(at::kFloat));
    const at::Tensor workspace =
        device_bytes(cuda::embedding_workspace_bytes(ids.numel(), vocabulary, width), dy);
    check_launch(cuda::embedding_backward({.tokens = ids.numel(),
                                           .vocabulary = vocabulary,
                                           .width = width,
                                           .element = element_of(dy),
                                           .ids = ids.const_data_ptr<int64_t>(),
                                           .dy = dy.const_data_ptr(),
                                           .workspace = workspace.mutable_data_ptr(),
                                           .dweight = dweight.mutable_data_ptr<float>()},
                                          current_stream()),
                 "embedding");
    return {at::Tensor(), part.defined() ? at::Tensor() : dweight.to(dy.scalar_type()), at::Tensor()};
  }
};

}  // namespace

at::Tensor embedding_cuda(const at::Tensor& ids, const Weight& weight) {
  DM_CHECK(ids.is_cuda(), "embedding: weight is {}, but ids {}", describe(weight.value), describe(ids));
  DM_CHECK(ids.numel() <= std::numeric_limits<int32_t>::max(), "embedding: {} ids at once", ids.numel());
  DM_CHECK(weight.parts.size() <= 1, "embedding: the weight has {} parts, expected one", weight.parts.size());
  const at::Tensor dense_ids = ids.to(at::kLong).contiguous();
  if (weight.parts.empty()) return Embedding::apply(dense_ids, weight.value.contiguous(), std::nullopt);
  const at::Tensor& gradient = weight.parts[0].gradient;
  DM_CHECK_SHAPE("embedding", gradient, at::kFloat, weight.value.size(0), weight.value.size(1));
  DM_CHECK(gradient.is_contiguous(), "embedding: the part's gradient is not contiguous");
  // A stand-in that requires a gradient: autograd comes here although the weight itself may ask for none.
  const at::Tensor value = weight.value.detach().contiguous().requires_grad_();
  return Embedding::apply(dense_ids, value, std::optional(gradient));
}

}  // namespace dm::kernels
