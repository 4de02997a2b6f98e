#include "model/sampling.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

const std::vector<double> kLogits = {0.5, 2.0, -1.0, 1.0, 2.0};  // 1 and 4 are equal

at::Tensor rows(int64_t count) { return at::tensor(kLogits).unsqueeze(0).repeat({count, 1}); }

std::vector<DrawAt> places(int64_t count, int64_t row = 0) {
  std::vector<DrawAt> all;
  for (int64_t i = 0; i < count; ++i) all.push_back({row, i});
  return all;
}

/// How often each token comes in `count` draws.
std::vector<double> shares(const SamplingConfig& config, int64_t count = 20000) {
  const at::Tensor ids = sample(rows(count), config, places(count));
  std::vector<double> share(kLogits.size());
  for (int64_t i = 0; i < count; ++i) ++share[static_cast<size_t>(ids[i].item<int64_t>())];
  for (double& s : share) s /= static_cast<double>(count);
  return share;
}

std::vector<double> softmax(std::vector<double> logits, double temperature) {
  double sum = 0;
  for (double& l : logits) sum += l = std::exp(l / temperature);
  for (double& l : logits) l /= sum;
  return logits;
}

constexpr double kNoise = 0.018;  // five standard deviations of a share of 20,000 draws are at most 0.0177

TEST(Sampling, GreedyTakesTheSmallestOfEqualIds) {
  SamplingConfig config;
  config.temperature = 0;
  EXPECT_EQ(sample(rows(1), config, places(1))[0].item<int64_t>(), 1);
  SamplingConfig narrow;
  narrow.top_k = 1;
  EXPECT_EQ(sample(rows(1), narrow, places(1))[0].item<int64_t>(), 1);
}

TEST(Sampling, FrequenciesAreTheProbabilities) {
  for (const double temperature : {0.5, 1.0, 3.0}) {
    SamplingConfig config;
    config.temperature = temperature;
    const auto expected = softmax(kLogits, temperature), seen = shares(config);
    for (size_t i = 0; i < seen.size(); ++i)
      EXPECT_NEAR(seen[i], expected[i], kNoise) << temperature << ", token " << i;
  }
}

TEST(Sampling, TopKRenormalises) {
  SamplingConfig config;
  config.top_k = 3;
  const auto expected = softmax({2.0, 1.0, 2.0}, 1), seen = shares(config);
  EXPECT_NEAR(seen[1], expected[0], kNoise);
  EXPECT_NEAR(seen[3], expected[1], kNoise);
  EXPECT_NEAR(seen[4], expected[2], kNoise);
  EXPECT_EQ(seen[0] + seen[2], 0);
  config.top_k = 1000;  // more than there are
  EXPECT_NEAR(shares(config)[0], softmax(kLogits, 1)[0], kNoise);
}

TEST(Sampling, TopPTakesTheFewestThatHoldIt) {
  const auto p = softmax(kLogits, 1);  // 0.094 0.421 0.021 0.155 0.421 of about 1.11: 1, 4, 3, 0, 2
  SamplingConfig config;
  config.top_p = p[1] * 0.99;
  EXPECT_EQ(shares(config)[1], 1);
  config.top_p = p[1] + p[4] * 0.5;
  EXPECT_NEAR(shares(config)[1], 0.5, kNoise);
  EXPECT_NEAR(shares(config)[4], 0.5, kNoise);
  config.top_p = p[1] + p[4] + p[3] * 0.5;
  EXPECT_GT(shares(config)[3], 0.1);
  EXPECT_EQ(shares(config)[0] + shares(config)[2], 0);
  config.top_p = 0;
  EXPECT_EQ(shares(config)[1], 1);
}

TEST(Sampling, BatchingChangesNoDraw) {
  const at::Tensor logits = random_normal({6, 50}, at::kFloat, 3);
  std::vector<DrawAt> at_;
  for (int64_t b = 0; b < 6; ++b) at_.push_back({b + 10, 7 * b});
  const at::Tensor together = sample(logits, {}, at_);
  for (int64_t b = 0; b < 6; ++b)
    EXPECT_EQ(sample(logits.narrow(0, b, 1), {}, {at_[static_cast<size_t>(b)]})[0].item<int64_t>(),
              together[b].item<int64_t>());
}

TEST(Sampling, SeedRowAndPositionEachMatter) {
  SamplingConfig config;
  const at::Tensor base = sample(rows(64), config, places(64));
  EXPECT_TRUE(at::equal(base, sample(rows(64), config, places(64))));
  EXPECT_FALSE(at::equal(base, sample(rows(64), config, places(64, 1))));
  config.seed = 2;
  EXPECT_FALSE(at::equal(base, sample(rows(64), config, places(64))));
  EXPECT_GT(std::get<0>(at::_unique(base)).numel(), 2);
}

TEST(Sampling, RefusesLogitsThatAreNotFinite) {
  at::Tensor logits = rows(1);
  logits[0][3] = std::nan("");
  EXPECT_THAT(test::refusal(ExitCode::internal,
                            [&] {
                              sample(logits, {}, {{4, 9}});
                            }),
              testing::HasSubstr("logit 3 of row 4 at position 9 is nan"));
}

}  // namespace
}  // namespace dm::model
