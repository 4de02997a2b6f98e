#include "model/adaptive_softmax.h"

#include <gmock/gmock.h>

#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

ModelConfig config_with(std::vector<std::string> cutoffs) {
  ModelConfig config = small_config("M");  // V 11
  config.cutoffs = std::move(cutoffs);
  return config;
}

TEST(AdaptiveSoftmax, EqualsItsFormula) {
  for (const std::vector<std::string>& cutoffs :
       std::vector<std::vector<std::string>>{{"4"}, {"3", "7"}, {"1", "2", "10"}}) {
    const ModelConfig config = config_with(cutoffs);
    const int64_t clusters = cluster_count(config), words = config.vocab_size;
    const at::Tensor logits = random_normal({5, words + clusters}, at::kDouble, 3).exp();
    const at::Tensor log_p = adaptive_log_probabilities(config, logits);
    const std::vector<int64_t> parts = vocabulary_parts(config);
    for (int64_t t = 0; t < 5; ++t) {
      const auto e = [&](int64_t i) { return std::exp(logits[t][i].item<double>()); };
      double head = 0;
      for (int64_t i = 0; i < parts[1]; ++i) head += e(i);
      for (int64_t k = 0; k < clusters; ++k) head += e(words + k);
      for (int64_t word = 0; word < words; ++word) {
        double p = e(word) / head;
        for (int64_t k = 0; k < clusters; ++k) {
          const int64_t begin = parts[static_cast<size_t>(k) + 1], end = parts[static_cast<size_t>(k) + 2];
          if (word < begin || word >= end) continue;
          double within = 0;
          for (int64_t i = begin; i < end; ++i) within += e(i);
          p = e(words + k) / head * e(word) / within;
        }
        EXPECT_NEAR(log_p[t][word].item<double>(), std::log(p), 1e-12) << "word " << word;
      }
    }
    EXPECT_LE(relative_error(log_p.exp().sum(1), at::ones({5}, at::kDouble)), 1e-14);
  }
}

TEST(AdaptiveSoftmax, TheLossIsThatOfTheModelsProbabilities) {
  for (const bool tied : {true, false}) {
    ModelConfig config = config_with({"3", "7"});
    config.tied = tied;
    const LanguageModel model(config, random_parameters(config, at::kDouble));
    const at::Tensor tokens = random_ids(2, 28, config.vocab_size, 11), seq_idx = documents(2, 27);
    at::Tensor mask = at::ones({2, 27}, at::kByte);
    mask[0][3] = 0;
    at::Tensor per_target;
    const at::Tensor sum = model.loss_sum(tokens, seq_idx, mask, &per_target);
    const at::Tensor log_p = model.logits(tokens.narrow(1, 0, 27), seq_idx);
    const at::Tensor nll = -log_p.gather(2, tokens.narrow(1, 1, 27).unsqueeze(-1)).squeeze(-1) * mask;
    EXPECT_LE(relative_error(sum, nll.sum()), 1e-13);
    EXPECT_LE(relative_error(per_target, nll), 1e-13);
    EXPECT_EQ(per_target[0][3].item<double>(), 0);
  }
}

TEST(AdaptiveSoftmax, ClustersWithoutATargetCostNothingAndGetNoGradient) {
  const ModelConfig config = config_with({"3", "7"});
  const Parameters parameters = random_parameters(config, at::kDouble);
  const at::Tensor tokens = random_ids(2, 14, 3, 5);  // frequent words alone
  LanguageModel(config, parameters)
      .loss_sum(tokens, documents(2, 13), at::ones({2, 13}, at::kByte))
      .backward();
  const at::Tensor gradient = parameters.at("backbone.embeddings.weight").grad();
  EXPECT_EQ(gradient.narrow(0, 3, 8).norm().item<double>(), 0);
  EXPECT_GT(gradient.narrow(0, 0, 3).norm().item<double>(), 0);
  EXPECT_GT(parameters.at(kClusterWeight).grad().norm().item<double>(), 0);
}

TEST(AdaptiveSoftmax, RefusesCutoffsThatDoNotRise) {
  for (const std::vector<std::string>& cutoffs :
       std::vector<std::vector<std::string>>{{"0"}, {"11"}, {"5", "5"}, {"7", "3"}})
    EXPECT_THAT(test::refusal(ExitCode::usage, [&] { validate(config_with(cutoffs)); }),
                testing::HasSubstr("must rise from above 0 to below --vocab-size 11"));
  EXPECT_THAT(test::refusal(ExitCode::usage, [&] { validate(config_with({"three"})); }),
              testing::HasSubstr("--cutoffs: 'three' is not a whole number"));
  EXPECT_THAT(test::refusal(ExitCode::usage, [&] { check_device(config_with({"3"}), true); }),
              testing::HasSubstr("--cutoffs 3: the adaptive softmax is computed on CPUs alone"));
  check_device(config_with({"3"}), false);
  check_device(config_with({}), true);
}

}  // namespace
}  // namespace dm::model
