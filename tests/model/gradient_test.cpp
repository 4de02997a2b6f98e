// The gradient of the whole model's loss against central differences in float64, tensor by tensor.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <torch/csrc/autograd/variable.h>

#include "tests/model/models.h"

namespace dm::model {
namespace {

class Check {
 public:
  explicit Check(const ModelConfig& config)
      : parameters_(random_parameters(config, at::kDouble)),
        model_(config, parameters_),
        tokens_(random_ids(2, 14, config.vocab_size, 31)),
        seq_idx_(documents(2, 13)),
        mask_(at::ones({2, 13}, at::kByte)) {
    mask_[1][4] = 0;
    model_.loss_sum(tokens_, seq_idx_, mask_, nullptr, &rows_).backward();
  }

  /// The slope of the loss along `direction` of one parameter.
  double slope(const at::Tensor& parameter, const at::Tensor& direction) const {
    const at::NoGradGuard no_gradients;
    const at::Tensor values = parameter.detach(), start = values.clone();
    const auto loss = [&](double step) {
      values.copy_(start + step * direction);
      return model_.loss_sum(tokens_, seq_idx_, mask_, nullptr, &rows_).item<double>();
    };
    const double slope = (loss(kStep) - loss(-kStep)) / (2 * kStep);
    values.copy_(start);
    return slope;
  }

  const Parameters& parameters() const { return parameters_; }

 private:
  // The difference quotient of a loss near 60 is off by 60 · 1e-16 / 1e-5 · (a few) from rounding and by
  // 1e-10 · (third derivative) from the step: about 1e-9 either way.
  static constexpr double kStep = 1e-5;
  Parameters parameters_;
  LanguageModel model_;
  at::Tensor tokens_, seq_idx_, mask_;
  const LanguageModel::TrainingRows rows_ = training_rows(2);
};

void expect_gradients(const std::string& name, const ModelConfig& config) {
  const Check check(config);
  uint64_t seed = 40;
  for (const auto& [parameter_name, parameter] : check.parameters()) {
    ASSERT_TRUE(parameter.grad().defined()) << name << ": " << parameter_name;
    const at::Tensor gradient = parameter.grad();
    const double size = gradient.norm().item<double>();
    EXPECT_GT(size, 1e-7) << name << ": " << parameter_name << " has no gradient to check";
    const at::Tensor random = random_normal(parameter.sizes().vec(), at::kDouble, ++seed);
    for (const at::Tensor& direction : {gradient / size, random / random.norm()})
      EXPECT_NEAR(check.slope(parameter, direction), (gradient * direction).sum().item<double>(),
                  1e-6 * size + 1e-7)
          << name << ": " << parameter_name;
  }
}

TEST(Gradient, EveryLetterMixerAndLambda) {
  for (const NamedConfig& c : every_layer()) expect_gradients(c.name, c.config);
}

TEST(Gradient, WithoutSublnAndWithGroups) {
  for (const char* lambda : {"sigmoid_sum", "head", "token_head"}) {
    ModelConfig config = small_config("DMS", "mamba2", lambda);
    config.subln = false;
    config.n_groups = 2;
    config.norm_group = "group";
    expect_gradients(std::string("groups, no subln, ") + lambda, config);
  }
  ModelConfig config = small_config("DS", "mamba1", "token");
  config.subln = false;
  expect_gradients("mamba1, no subln", config);
}

TEST(Gradient, UntiedPostNormLayerNorm) {
  ModelConfig config = small_config("DMF");
  config.tied = false;
  config.norm = "layer";
  config.block_norm = "post";
  expect_gradients("untied, post-norm", config);
}

TEST(Gradient, WithDropout) {
  for (const char* norm : {"pre", "post"}) {
    ModelConfig config = small_config("DMSF");
    config.block_norm = norm;
    config.norm = config.block_norm == "post" ? "layer" : "rms";
    config.dropout = 0.5, config.embedding_dropout = config.head_dropout = 0.25;
    expect_gradients(std::string("dropout, norm ") + norm, config);
  }
}

TEST(Gradient, AdaptiveSoftmax) {
  ModelConfig config = small_config("DM");
  for (const bool tied : {true, false}) {
    config.tied = tied;
    config.cutoffs = {"3", "7"};
    expect_gradients("adaptive softmax", config);
  }
}

TEST(Gradient, WithClampedSteps) {
  ModelConfig config = small_config("DM");
  config.head_dim = config.head_dim_plain =
      2;  // many heads, whose steps lie between 0.001 and 0.1: some are clamped, some not
  config.dt_limit_min = 0.005;
  config.dt_limit_max = 0.05;
  expect_gradients("clamped steps", config);
}

}  // namespace
}  // namespace dm::model
