#include "kernels/decode/norm_linear_cuda.h"

#include <ATen/ATen.h>

#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {

std::optional<NormedProduct> norm_linear_cuda(const PendingNorm& pending, const Weight& matrix) {
  const at::Tensor &h = pending.h, &w = matrix.value;
  if (h.scalar_type() != at::kFloat || w.scalar_type() != at::kBFloat16 || h.dim() != 2 || w.stride(1) != 1)
    return std::nullopt;
  const at::Tensor dense_h = h.contiguous(), y = pending.y ? pending.y->contiguous() : at::Tensor(),
                   subln = pending.subln ? pending.subln->contiguous() : at::Tensor(),
                   weight = pending.weight.contiguous();
  if (y.defined() && y.scalar_type() != at::kBFloat16) return std::nullopt;
  cuda::NormProduct args{.rows = h.size(0),
                         .width = h.size(1),
                         .h = dense_h.const_data_ptr<float>(),
                         .y = y.defined() ? y.const_data_ptr() : nullptr,
                         .subln = subln.defined() ? subln.const_data_ptr<float>() : nullptr,
                         .weight = weight.const_data_ptr<float>(),
                         .eps = static_cast<float>(pending.eps),
                         .matrix = {w.const_data_ptr(), w.stride(0), w.size(0), w.size(1)},
                         .h_next = nullptr,
                         .product = nullptr,
                         .product_stride = (w.size(0) + 7) / 8 * 8};
  if (!cuda::norm_product_serves(args)) return std::nullopt;
  at::Tensor h_next = y.defined() ? at::empty_like(dense_h) : dense_h;
  at::Tensor product = at::empty({args.rows, args.product_stride}, w.options());
  args.h_next = h_next.data_ptr<float>();
  args.product = product.data_ptr();
  check_launch(cuda::norm_product(args, current_stream()), "norm_linear");
  return NormedProduct{h_next, product.narrow(1, 0, w.size(0))};
}

}  // namespace dm::kernels
