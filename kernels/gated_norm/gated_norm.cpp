// The tensor boundary of the gated norm: checks, strides, autograd. The work is in gated_norm_simd.cpp;
// that on GPU tensors begins in gated_norm_cuda.cpp.

#include "kernels/gated_norm/gated_norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/gated_norm/gated_norm_cpu.h"
#include "kernels/gated_norm/gated_norm_cuda.h"
#include "kernels/shares.h"
#include "kernels/simd/scratch.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// [0, width) cut at the borders of both partitions.
std::vector<GatedSegment> cut(int64_t width, int64_t spans, int64_t sections) {
  std::vector<GatedSegment> segments;
  const int64_t span_width = width / spans, section_width = width / sections;
  for (int64_t begin = 0; begin < width;) {
    const int64_t span = begin / span_width, section = begin / section_width;
    const int64_t end = std::min((span + 1) * span_width, (section + 1) * section_width);
    segments.push_back({begin, end, span, section});
    begin = end;
  }
  return segments;
}

struct Problem {
  at::Tensor y, z, weight;
  at::Tensor scale;  // expanded to [B, L, S], or undefined
  int64_t spans;
  double eps;
  std::vector<GatedSegment> segments;

  Problem(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight, const at::Tensor& scale,
          int64_t spans, double eps)
      : y(y),
        z(z),
        weight(weight),
        scale(scale),
        spans(spans),
        eps(eps),
        segments(cut(y.size(2), spans, sections())) {
    if (scale.defined()) this->scale = scale.expand({y.size(0), y.size(1), scale.size(-1)});
  }
  int64_t sections() const { return scale.defined() ? scale.size(-1) : 1; }

  template <class T>
  static TokenRows<const T> rows(const at::Tensor& t) {
    return {t.const_data_ptr<T>(), t.stride(0), t.stride(1)};
  }
  template <class T>
  GatedNormInput<T> input() const {
    const bool scaled = scale.defined();
    return {y.size(0),
            y.size(1),
            y.size(2),
            spans,
            sections(),
            rows<T>(y),
            rows<T>(z),
            weight.const_data_ptr<T>(),
            scaled ? scale.const_data_ptr<T>() : nullptr,
            scaled ? scale.stride(0) : 0,
            scaled ? scale.stride(1) : 0,
            scaled ? scale.stride(2) : 0,
            eps,
            segments.data(),
            static_cast<int64_t>(segments.size())};
  }
};

/// Adds [B, L, S] in order into the shape that was broadcast to it.
at::Tensor reduced(const at::Tensor& dscale, const at::Tensor& scale) {
  at::Tensor sum = at::zeros(scale.sizes(), dscale.options());
  const at::Tensor target = sum.expand(dscale.sizes());
  const double* from = dscale.const_data_ptr<double>();
  double* to = sum.data_ptr<double>();
  for (int64_t b = 0; b < dscale.size(0); ++b)
    for (int64_t t = 0; t < dscale.size(1); ++t)
      for (int64_t s = 0; s < dscale.size(2); ++s)
        to[b * target.stride(0) + t * target.stride(1) + s * target.stride(2)] += *from++;
  return sum.to(scale.scalar_type());
}

class GatedNorm : public torch::autograd::Function<GatedNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, const at::Tensor& z,
                            const at::Tensor& weight, int64_t spans, const std::optional<at::Tensor>& scale,
                            double eps) {
    const Problem p(dense_rows(y), dense_rows(z), weight.contiguous(), scale.value_or(at::Tensor()), spans,
                    eps);
    at::Tensor out = at::empty(y.sizes(), y.options()),
               root = at::empty({y.size(0) * y.size(1), spans}, y.options());
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "gated_norm", [&] {
      using T = scalar_t;
      const GatedNormInput<T> in = p.input<T>();
      T *to = out.data_ptr<T>(), *roots = root.data_ptr<T>();
      parallel_for(in.blocks(), [&](int64_t block) {
        DM_SIMD_CALL(gated_norm_forward_task<T>)(in, to, roots, block);
      });
    });
    context->save_for_backward({p.y, p.z, p.weight, scale.value_or(at::Tensor()), root});
    context->saved_data["spans"] = spans;
    context->saved_data["eps"] = eps;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p(saved[0], saved[1], saved[2], saved[3], context->saved_data["spans"].toInt(),
                    context->saved_data["eps"].toDouble());
    const at::Tensor &scale = saved[3], &root = saved[4];
    const at::Tensor dout = dense_rows(grads[0]);
    const at::TensorOptions sums = p.y.options().dtype(at::kDouble);
    at::Tensor dy = at::empty(p.y.sizes(), p.y.options()), dz = at::empty_like(dy),
               dweight = at::empty({p.y.size(2)}, p.y.options());
    at::Tensor dscale =
        scale.defined() ? at::empty({p.y.size(0), p.y.size(1), p.sections()}, sums) : at::Tensor();
    AT_DISPATCH_FLOATING_TYPES(p.y.scalar_type(), "gated_norm", [&] {
      using T = scalar_t;
      const GatedNormInput<T> in = p.input<T>();
      const at::Tensor shares = at::empty({in.blocks(), in.width}, sums);
      const GatedNormGradient<T> grad{Problem::rows<T>(dout),
                                      root.const_data_ptr<T>(),
                                      dy.data_ptr<T>(),
                                      dz.data_ptr<T>(),
                                      dscale.defined() ? dscale.data_ptr<double>() : nullptr,
                                      shares.data_ptr<double>()};
      parallel_for(in.blocks(), [&](int64_t block) {
        DM_SIMD_CALL(gated_norm_backward_task<T>)(in, grad, block, scratch<T>(3 * in.width + in.spans));
      });
      sum_shares(shares.const_data_ptr<double>(), in.blocks(), in.width, dweight.data_ptr<T>());
    });
    return {dy,          dz, dweight, at::Tensor(), scale.defined() ? reduced(dscale, scale) : at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor gated_norm(const at::Tensor& y, const at::Tensor& z, const at::Tensor& weight, int64_t spans,
                      const std::optional<at::Tensor>& scale, double eps) {
  DM_CHECK_FLOATING("gated_norm", y);
  const at::ScalarType dtype = y.scalar_type();
  DM_CHECK_SHAPE("gated_norm", y, dtype, -1, -1, -1);
  const int64_t width = y.size(2);
  DM_CHECK_SHAPE("gated_norm", z, dtype, y.size(0), y.size(1), width);
  DM_CHECK_SHAPE("gated_norm", weight, parameter_dtype(y), width);
  DM_CHECK(spans >= 1 && width % spans == 0, "gated_norm: {} spans do not divide E = {}", spans, width);
  if (scale) {
    DM_CHECK_FLOATING("gated_norm", *scale);
    const bool fits = scale->scalar_type() == parameter_dtype(y) && scale->dim() >= 1 && scale->dim() <= 3 &&
                      scale->size(-1) >= 1 && width % scale->size(-1) == 0 &&
                      at::is_expandable_to(scale->sizes(), {y.size(0), y.size(1), scale->size(-1)});
    DM_CHECK(
        fits,
        "gated_norm: scale is {}, expected the dtype of weight and a shape broadcastable to [{}, {}, S], S a "
        "divisor of {}",
        describe(*scale), y.size(0), y.size(1), width);
  }
  if (y.is_cuda()) return gated_norm_cuda(y, z, weight, spans, scale, eps);
  return GatedNorm::apply(y, z, weight, spans, scale, eps);
}

}  // namespace dm::kernels
