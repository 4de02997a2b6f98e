#include "kernels/linear/linear_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/linear/gemm_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Rows of an odd width are stored further apart, so that all of them start where wide loads and the bulk
/// copies of GEMMs want it.
int64_t padded(int64_t width) { return width < 64 ? (width + 7) / 8 * 8 : (width + 63) / 64 * 64; }

class Linear : public torch::autograd::Function<Linear> {
 public:
  /// `value` is weight.value once more, so that autograd sees it.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& value,
                            const std::optional<at::Tensor>& bias, const Weight& weight) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = padded(value.size(0));
    at::Tensor y = at::empty(shape, x.options()).narrow(-1, 0, value.size(0));
    multiply_transposed(dense_matrix(x), value, dense_matrix(y));
    if (bias) y.add_(*bias);
    context->save_for_backward({x});
    context->saved_data["bias"] = bias.has_value();
    keep_weight(*context, weight);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const Weight weight = kept_weight(*context);
    const at::Tensor& value = weight.value;
    const at::Tensor dy = dense_matrix(grads[0]);
    at::Tensor dx, dvalue, dbias;
    if (context->needs_input_grad(0)) {
      dx = at::empty(x.sizes(), x.options());
      multiply(dy, value, dense_matrix(dx));
    }
    add_weight_gradient(dy, dense_matrix(x), weight);
    if (context->needs_input_grad(1)) {
      dvalue = at::zeros(value.sizes(), value.options().dtype(at::kFloat));
      add_outer_product({dy, dense_matrix(x), dvalue});
      dvalue = dvalue.to(value.scalar_type());
    }
    if (context->saved_data["bias"].toBool()) dbias = dy.sum(0, /*keepdim=*/false, at::kFloat);
    return {dx, dvalue, dbias, at::Tensor()};
  }
};

}  // namespace

void keep_weight(AutogradContext& context, const Weight& weight, const std::string& name) {
  std::vector<at::Tensor> gradients;
  std::vector<int64_t> places;
  for (const Weight::Part& part : weight.parts) {
    gradients.push_back(part.gradient);
    places.insert(places.end(), {part.row, part.column});
  }
  context.saved_data[name] = weight.value.detach();
  context.saved_data[name + " gradients"] = gradients;
  context.saved_data[name + " places"] = places;
}

Weight kept_weight(AutogradContext& context, const std::string& name) {
  Weight weight(context.saved_data[name].toTensor());
  const std::vector<at::Tensor> gradients = context.saved_data[name + " gradients"].toTensorVector();
  const std::vector<int64_t> places = context.saved_data[name + " places"].toIntVector();
  for (size_t i = 0; i < gradients.size(); ++i)
    weight.parts.push_back({gradients[i], places[2 * i], places[2 * i + 1]});
  return weight;
}

void add_weight_gradient(const at::Tensor& dy, const at::Tensor& x, const Weight& weight) {
  const auto product = [&](const Weight::Part& part) {
    return OuterProduct{dy.narrow(1, part.row, part.gradient.size(0)),
                        x.narrow(1, part.column, part.gradient.size(1)), part.gradient};
  };
  // One launch takes two of a shape, of which the second stands behind the first in everything.
  const auto pair = [](const Weight::Part& first, const Weight::Part& second) {
    return first.gradient.sizes() == second.gradient.sizes() && first.row <= second.row &&
           first.column <= second.column &&
           first.gradient.const_data_ptr<float>() < second.gradient.const_data_ptr<float>();
  };
  const std::vector<Weight::Part>& parts = weight.parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i + 1 < parts.size() && pair(parts[i], parts[i + 1])) {
      add_outer_products(product(parts[i]), product(parts[i + 1]));
      ++i;
    } else {
      add_outer_product(product(parts[i]));
    }
  }
}

at::Tensor linear_cuda(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
  return Linear::apply(x, weight.value, bias, weight);
}

}  // namespace dm::kernels
