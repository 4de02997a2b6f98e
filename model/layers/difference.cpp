#include "model/layers/difference.h"

#include "kernels/norm/norm.h"

namespace dm::model {

Difference::Difference(const ModelConfig& config, const LambdaForm& form, int64_t layer,
                       const Scope& parameters)
    : form_(form),
      layer_(layer),
      parameters_(parameters),
      eps_(config.norm_eps),
      factor_(form.factor(layer)) {
  if (config.subln) subln_ = parameters["subln.weight"];
}

at::Tensor Difference::sections(const at::Tensor& lambda) const {
  const at::Tensor both = at::cat({at::ones_like(lambda), -lambda}, -1);
  return subln_ || factor_ == 1 ? both : both * factor_;
}

std::optional<at::Tensor> Difference::norm_weight() const {
  if (!subln_) return std::nullopt;
  return factor_ == 1 ? *subln_ : *subln_ * factor_;
}

at::Tensor Difference::normalised(const at::Tensor& sum) const {
  return subln_ ? kernels::rms_norm(sum, *norm_weight(), eps_) : sum;
}

at::Tensor Difference::plain(const at::Tensor& n_1, const at::Tensor& n_2, const at::Tensor& lambda) const {
  const at::Tensor y = n_1 - lambda * n_2;
  return (subln_ ? kernels::rms_norm(y, *subln_, eps_) : y) * factor_;
}

}  // namespace dm::model
