// Adding a form of λ, by example: λ = λ_init · (1 + tanh θ), one θ a layer, between 0 and 2 λ_init.
//
// To put such a form into the house: move the class to model/lambda.cpp and add it to the list there.
// `--lambda`, its help and its refusals, parameters, the merged execution, decoding and the tests over all
// forms then know it.

#include <gtest/gtest.h>

#include <torch/csrc/autograd/variable.h>

#include "model/layers/difference.h"
#include "tests/model/models.h"

namespace dm::model {
namespace {

class Bounded final : public LambdaForm {
 public:
  const char* name() const override { return "bounded"; }

  void declare(const LambdaPlace&, const Declare& declare) const override {
    declare.exempt("lambda_theta", {1}, Init::constant(0));  // no weight decay; starts at λ_init
  }

  at::Tensor value(const Scope& p, int64_t layer, const at::Tensor&) const override {
    return lambda_init(layer) * (1 + p["lambda_theta"].tanh());  // [1]
  }
};

TEST(ExampleLambda, EntersTheDifferenceLikeAnyOther) {
  const Bounded form;
  ModelConfig config = small_config("D");
  std::vector<ParameterInfo> infos;
  form.declare({2, config.d_model, config.d_state, 2}, Declare(infos));
  EXPECT_FALSE(infos.at(0).decay);
  Parameters parameters = {{"lambda_theta", at::full({1}, 0.3, at::kDouble).set_requires_grad(true)},
                           {"subln.weight", random_normal({config.d_model}, at::kDouble, 1)}};

  const at::Tensor n_1 = random_normal({2, 5, config.d_model}, at::kDouble, 2),
                   n_2 = random_normal({2, 5, config.d_model}, at::kDouble, 3);
  for (const bool subln : {true, false}) {
    config.subln = subln;
    const Difference difference(config, form, 2, Scope(parameters, ""));
    const at::Tensor lambda = difference.lambda({}), scale = difference.sections(lambda);  // [1], [2]
    const at::Tensor merged = difference.normalised(n_1 * scale[0] + n_2 * scale[1]);
    EXPECT_LE(relative_error(merged, difference.plain(n_1, n_2, lambda)), 1e-14);
    merged.sum().backward();
    EXPECT_NE(parameters.at("lambda_theta").grad().item<double>(), 0);
  }
}

}  // namespace
}  // namespace dm::model
