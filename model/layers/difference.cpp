#include "model/layers/difference.h"

#include <algorithm>

#include "kernels/norm/norm.h"
#include "kernels/norm/split_norm.h"
#include "kernels/vectors/vectors.h"

namespace dm::model {

Difference::Difference(const ModelConfig& config, const LambdaForm& form, int64_t layer,
                       const Scope& parameters, const MixerPart& part)
    : form_(form),
      layer_(layer),
      parameters_(parameters),
      eps_(config.norm_eps),
      factor_(form.factor(layer)),
      first_(!part.units(0).empty()),
      second_(!part.units(1).empty()),
      tensor_(part.placement.tp > 1 ? part.placement.tensor : nullptr) {
  if (config.subln) subln_ = parameters["subln.weight"];
  std::vector<kernels::VectorParts> vectors;
  if (subln_) vectors.push_back({{*subln_, kernels::VectorMap::scaled, factor_}});
  const bool known = form.sigmoid_of_sum() != nullptr && first_ && second_;
  if (known)
    vectors.push_back({{parameters[form.sigmoid_of_sum()], kernels::VectorMap::difference,
                        subln_ ? 1 : factor_, lambda_init(layer)}});
  if (vectors.empty()) return;
  const std::vector<at::Tensor> gathered = kernels::gather_vectors(vectors);
  if (subln_) norm_weight_ = gathered.front();
  if (known) sections_ = gathered.back();
}

std::optional<at::Tensor> Difference::sections() const {
  if (sections_) return sections_;
  const double factor = subln_ ? 1 : factor_;
  if (!second_) {
    if (factor == 1) return std::nullopt;
    return at::full({1}, factor, parameters_.options().requires_grad(false));
  }
  const at::Tensor second = -lambda({});
  const at::Tensor scaled = first_ ? at::cat({at::ones_like(second), second}, -1) : second;
  return factor == 1 ? scaled : scaled * factor;
}

kernels::TokenLambda Difference::split(const at::Tensor& projected, int64_t width) const {
  return kernels::token_lambda(projected, width, parameters_[form_.input_bias()], first_);
}

at::Tensor Difference::normalised(const at::Tensor& sum, int64_t width) const {
  if (!subln_) return sum;
  if (!tensor_) return kernels::rms_norm(sum, *norm_weight(), eps_);
  const kernels::SplitSpans one{.span_of = {0}, .count = 1, .width = width};
  return kernels::split_rms_norm(sum, *norm_weight(), one, std::nullopt, eps_, *tensor_);
}

at::Tensor Difference::plain(const at::Tensor& n_1, const at::Tensor& n_2, const at::Tensor& lambda,
                             std::optional<int64_t> width) const {
  const at::Tensor y = n_1 - lambda * n_2;
  if (width) return subln_ ? normalised(y, *width) : y * factor_;
  return (subln_ ? kernels::rms_norm(y, *subln_, eps_) : y) * factor_;
}

}  // namespace dm::model
