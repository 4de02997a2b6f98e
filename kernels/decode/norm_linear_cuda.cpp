#include "kernels/decode/norm_linear_cuda.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/decode/decode_chain_cuda.h"
#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {

std::optional<NormedProduct> norm_linear_cuda(const PendingNorm& pending, const Weight& matrix,
                                              DecodeChain& chain) {
  const at::Tensor &h = pending.h, &w = matrix.value;
  const at::Tensor y = pending.y.value_or(at::Tensor());
  const auto served = [](const at::Tensor& t, at::ScalarType dtype) {
    return !t.defined() || (t.scalar_type() == dtype && t.is_contiguous());
  };
  if (h.dim() != 2 || !served(h, at::kFloat) || !served(y, at::kBFloat16) ||
      w.scalar_type() != at::kBFloat16 || w.stride(1) != 1)
    return std::nullopt;
  const at::Tensor subln = pending.subln ? pending.subln->contiguous() : at::Tensor(),
                   weight = pending.weight.contiguous();
  const auto outputs = static_cast<int>(w.size(0)), inputs = static_cast<int>(w.size(1)),
             rows = static_cast<int>(h.size(0));
  DecodeChain::Impl& queue = chain.impl();
  cuda::NormProduct stage{.h = h.const_data_ptr<float>(),
                          .y = y.defined() ? y.const_data_ptr() : nullptr,
                          .y_mail = nullptr,
                          .subln = subln.defined() ? subln.const_data_ptr<float>() : nullptr,
                          .weight = weight.const_data_ptr<float>(),
                          .h_next = nullptr,
                          .product = nullptr,
                          .product_mail = nullptr,
                          .matrix = {w.const_data_ptr(), static_cast<int>(w.stride(0)), outputs, inputs},
                          .rows = rows,
                          .product_stride = (outputs + 7) / 8 * 8,
                          .eps = static_cast<float>(pending.eps)};
  if (!cuda::decode_serves(stage)) return std::nullopt;
  // The stream is the blocks' own while a launch lasts, of one shape.
  const auto last = std::find_if(queue.stages.rbegin(), queue.stages.rend(), [](const cuda::DecodeStage& s) {
    return s.kind == cuda::DecodeStage::Kind::norm_product;
  });
  if (last != queue.stages.rend()) {
    const cuda::NormProduct& before = last->norm;
    if (before.h_next == stage.h && before.rows == rows && before.matrix.inputs == inputs)
      stage.h = nullptr;
    else
      queue.run();
  }
  if (y.defined()) stage.y_mail = queue.mail_of(y);
  at::Tensor h_next = y.defined() ? at::empty_like(h) : h;
  at::Tensor product = at::empty({rows, stage.product_stride}, w.options());
  stage.h_next = h_next.data_ptr<float>();
  stage.product = product.data_ptr();
  stage.product_mail = queue.mail(int64_t{rows} * stage.product_stride / 2, w);
  queue.add(cuda::DecodeStage(stage), product, stage.product_mail, {h, y, subln, weight, w, h_next, product});
  return NormedProduct{h_next, product.narrow(1, 0, outputs)};
}

}  // namespace dm::kernels
