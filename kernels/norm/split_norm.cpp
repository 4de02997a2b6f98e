#include "kernels/norm/split_norm.h"

#include <ATen/ATen.h>

#include <vector>

#include "core/error.h"
#include "core/failpoint.h"
#include "kernels/check.h"
#include "kernels/comm/tensor_axis.h"

namespace dm::kernels {
namespace {

/// Sums of the parts [.., parts] -> of the spans, [.., count]. No index tensor: a GPU records this in a
/// graph, into which nothing may come from the host.
at::Tensor sums_of_spans(const at::Tensor& parts, const SplitSpans& spans) {
  std::vector<at::Tensor> sums(static_cast<size_t>(spans.count));
  for (size_t part = 0; part < spans.span_of.size(); ++part) {
    at::Tensor& sum = sums[static_cast<size_t>(spans.span_of[part])];
    const at::Tensor more = parts.select(-1, static_cast<int64_t>(part));
    sum = sum.defined() ? sum + more : more;
  }
  for (at::Tensor& sum : sums)
    if (!sum.defined()) sum = at::zeros_like(parts.select(-1, 0));  // all on other ranks
  return at::stack(sums, -1);
}

/// [.., count] -> what each part's span has, [.., parts].
at::Tensor of_their_spans(const at::Tensor& all, const SplitSpans& spans) {
  std::vector<at::Tensor> of_parts;
  for (const int64_t span : spans.span_of) of_parts.push_back(all.select(-1, span));
  return at::stack(of_parts, -1);
}

}  // namespace

at::Tensor split_rms_norm(const at::Tensor& x, const at::Tensor& weight, const SplitSpans& spans,
                          const std::optional<at::Tensor>& scale, double eps, Collectives& group) {
  const auto parts = static_cast<int64_t>(spans.span_of.size());
  DM_CHECK(parts >= 1 && x.size(-1) % parts == 0, "split_rms_norm: {} in {} parts", describe(x), parts);
  const at::ScalarType sums = parameter_dtype(x);
  const at::Tensor wide = x.to(sums).unflatten(-1, {parts, -1});  // [.., parts, E / parts]
  const at::Tensor mine = sums_of_spans(wide.square().sum(-1), spans);
  const at::Tensor all = sum_over_ranks(mine, group);  // [.., spans]
  const double width = static_cast<double>(spans.width) / (DM_FAULT("norm.width") ? 2 : 1);
  const at::Tensor root = (of_their_spans(all, spans) / width + eps).rsqrt();
  at::Tensor out = (wide * root.unsqueeze(-1)).flatten(-2) * weight;
  if (scale) out = (out.unflatten(-1, {scale->size(-1), -1}) * scale->unsqueeze(-1)).flatten(-2);
  return out.to(x.scalar_type());
}

}  // namespace dm::kernels
