#include "kernels/norm/split_norm.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/failpoint.h"
#include "kernels/check.h"
#include "kernels/comm/tensor_axis.h"

namespace dm::kernels {

at::Tensor split_rms_norm(const at::Tensor& x, const at::Tensor& weight, const SplitSpans& spans,
                          const std::optional<at::Tensor>& scale, double eps, Collectives& group) {
  const auto parts = static_cast<int64_t>(spans.span_of.size());
  DM_CHECK(parts >= 1 && x.size(-1) % parts == 0, "split_rms_norm: {} in {} parts", describe(x), parts);
  const at::ScalarType sums = parameter_dtype(x);
  const at::Tensor wide = x.to(sums).unflatten(-1, {parts, -1});  // [.., parts, E / parts]
  const at::Tensor index = at::tensor(spans.span_of, at::TensorOptions().dtype(at::kLong)).to(x.device());
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = spans.count;
  const at::Tensor mine = at::zeros(shape, wide.options()).index_add(-1, index, wide.square().sum(-1));
  const at::Tensor all = sum_over_ranks(mine, group);  // [.., spans]
  const double width = static_cast<double>(spans.width) / (DM_FAULT("norm.width") ? 2 : 1);
  const at::Tensor root = (all.index_select(-1, index) / width + eps).rsqrt();
  at::Tensor out = (wide * root.unsqueeze(-1)).flatten(-2) * weight;
  if (scale) out = (out.unflatten(-1, {scale->size(-1), -1}) * scale->unsqueeze(-1)).flatten(-2);
  return out.to(x.scalar_type());
}

}  // namespace dm::kernels
