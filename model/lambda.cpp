#include "model/lambda.h"

#include <fmt/ranges.h>

#include <cmath>

#include "core/error.h"

namespace dm::model {
namespace {

/// One row a head, on the rank that has it.
Cut cut(const LambdaPlace& place, bool by_head) { return by_head ? cut_along(0, place.dealt) : Cut{}; }

/// σ(Σ_j λ_q1[j]) + λ_init: the published Mamba-2 code. The elements share one gradient; the vector is kept
/// because AdamW moves its sum `width` times as fast as it would move a scalar.
class SigmoidSum : public LambdaForm {
 public:
  const char* name() const override { return "sigmoid_sum"; }
  void declare(const LambdaPlace& place, const Declare& declare) const override {
    declare.exempt("lambda_q1", {width(place)}, Init::normal(1));
  }
  at::Tensor value(const Scope& p, int64_t layer, const at::Tensor&) const override {
    return at::sigmoid(p["lambda_q1"].sum()).reshape({1}) + lambda_init(layer);
  }
  const char* sigmoid_of_sum() const override { return "lambda_q1"; }

 protected:
  virtual int64_t width(const LambdaPlace& place) const { return place.d_model; }
};

class ScanSigmoid final : public SigmoidSum {
  int64_t width(const LambdaPlace&) const override { return 1; }
};

/// exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init: the published Mamba-1 code, as in the Differential Transformer.
class ExpDiff final : public LambdaForm {
 public:
  const char* name() const override { return "exp_diff"; }
  void declare(const LambdaPlace& place, const Declare& declare) const override {
    for (const char* vector : {"lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"})
      declare.exempt(vector, {place.d_state}, Init::normal(0.1));
  }
  at::Tensor value(const Scope& p, int64_t layer, const at::Tensor&) const override {
    const auto exp_dot = [&](const char* q, const char* k) { return (p[q] * p[k]).sum().exp().reshape({1}); };
    return exp_dot("lambda_q1", "lambda_k1") - exp_dot("lambda_q2", "lambda_k2") + lambda_init(layer);
  }
};

/// λ_init + θ, one θ a layer or one a head.
class Offset final : public LambdaForm {
 public:
  explicit Offset(bool by_head) : by_head_(by_head) {}
  const char* name() const override { return by_head_ ? "head" : "scalar"; }
  bool by_head() const override { return by_head_; }
  void declare(const LambdaPlace& place, const Declare& declare) const override {
    declare.exempt("lambda_theta", {by_head_ ? place.heads : 1}, Init::constant(0), cut(place, by_head_));
  }
  at::Tensor value(const Scope& p, int64_t layer, const at::Tensor&) const override {
    return p["lambda_theta"] + lambda_init(layer);
  }

 private:
  bool by_head_;
};

class Fixed final : public LambdaForm {
 public:
  const char* name() const override { return "fixed"; }
  at::Tensor value(const Scope& p, int64_t layer, const at::Tensor&) const override {
    return at::full({1}, lambda_init(layer), p.options());
  }
};

/// σ(w·u_t + b), one λ a token or one a token and head: the second version of the Differential Transformer.
class FromInput final : public LambdaForm {
 public:
  explicit FromInput(bool by_head) : by_head_(by_head) {}
  const char* name() const override { return by_head_ ? "token_head" : "token"; }
  bool by_head() const override { return by_head_; }
  const char* input_bias() const override { return "lambda_proj.bias"; }
  void declare(const LambdaPlace& place, const Declare& declare) const override {
    const int64_t rows = by_head_ ? place.heads : 1;
    declare.exempt("lambda_proj.weight", {rows, place.d_model}, Init::linear(place.d_model),
                   cut(place, by_head_));
    declare.exempt("lambda_proj.bias", {rows}, Init::constant(0), cut(place, by_head_));
  }
  at::Tensor value(const Scope& p, int64_t, const at::Tensor& projected) const override {
    return at::sigmoid(projected + p[input_bias()]);
  }

 private:
  bool by_head_;
};

const std::vector<const LambdaForm*>& forms() {
  static const SigmoidSum sigmoid_sum;
  static const ExpDiff exp_diff;
  static const Offset scalar(false), head(true);
  static const Fixed fixed;
  static const FromInput token(false), token_head(true);
  static const std::vector<const LambdaForm*> all = {&sigmoid_sum, &exp_diff, &scalar,    &head,
                                                     &fixed,       &token,    &token_head};
  return all;
}

}  // namespace

double lambda_init(int64_t layer) { return 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(layer)); }

const LambdaForm& lambda_form(const std::string& name) {
  for (const LambdaForm* form : forms())
    if (name == form->name()) return *form;
  DM_FAIL(ExitCode::usage, "--lambda: '{}' is no form of the differential weight; known: {}", name,
          fmt::join(lambda_form_names(), ", "));
}

const LambdaForm& scan_lambda_form() {
  static const ScanSigmoid form;
  return form;
}

std::vector<std::string> lambda_form_names() {
  std::vector<std::string> names;
  for (const LambdaForm* form : forms()) names.emplace_back(form->name());
  return names;
}

}  // namespace dm::model
