#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

ModelConfig preset(const std::string& name) {
  ModelConfig config;
  apply_preset(config, name);
  return config;
}

TEST(Presets, AllAreValidAndKeepTheirName) {
  std::set<std::string> seen;
  for (const std::string& name : preset_names()) {
    EXPECT_TRUE(seen.insert(name).second) << name;
    const ModelConfig config = preset(name);
    validate(config);
    EXPECT_EQ(config.preset, name);
  }
  EXPECT_EQ(seen.size(), 4 * (6 + 2) + 4u);
}

TEST(Presets, PublishedSizesHaveThePublishedParameters) {
  // docs/model.md, in billions to the two digits given there; the families agree to 4 %.
  const std::pair<const char*, double> sizes[] = {
      {"130m", 0.13}, {"370m", 0.38}, {"790m", 0.80}, {"1.3b", 1.37}, {"2.7b", 2.74}};
  for (const auto& [size, billions] : sizes) {
    const double differential =
        static_cast<double>(parameter_count(preset(std::string("diffmamba2-") + size))) / 1e9;
    EXPECT_NEAR(differential, billions, std::max(0.005, 0.01 * billions)) << size;
    for (const char* family : {"mamba2-", "diffmamba1-", "mamba1-"})
      EXPECT_NEAR(
          static_cast<double>(parameter_count(preset(family + std::string(size)))) / 1e9 / differential, 1,
          0.04)
          << family << size;
  }
}

TEST(Presets, ThePapersStacksHaveItsParameters) {
  // In millions, without the embeddings, as its tables give them.
  const std::pair<const char*, int64_t> stacks[] = {{"diffmamba2-paper6", 129},
                                                    {"mamba2-paper6", 128},
                                                    {"diffmamba2-paper12", 259},
                                                    {"mamba2-paper12", 256}};
  for (const auto& [name, millions] : stacks) {
    const ModelConfig config = preset(name);
    const int64_t inner = parameter_count(config) - config.vocab_size * config.d_model;
    EXPECT_EQ(inner / 1'000'000, millions) << name << ": " << inner;
  }
}

TEST(Presets, ACountByHand) {
  // 370m, a D layer: twice in_proj (2E + 2N + H rows), convolution of E + 2N channels with bias, dt_bias,
  // A_log, D, norm and out_proj; λ, subln and the layer's norm.
  const int64_t d = 1024, n = 128, h = 32;
  const int64_t branch = (2 * d + 2 * n + h) * d + (d + 2 * n) * 5 + 3 * h + d + d * d;
  EXPECT_EQ(parameter_count(preset("diffmamba2-370m")), 48 * (2 * branch + 3 * d) + 50280 * d + d);
}

TEST(Presets, Shapes) {
  EXPECT_EQ(layer_letters(preset("diffmamba2-370m")), std::string(48, 'D'));
  EXPECT_EQ(layer_letters(preset("mamba2-2.7b")), std::string(64, 'M'));
  EXPECT_EQ(preset("diffmamba1-370m").d_state, 16);
  EXPECT_EQ(preset("diffmamba1-370m").lambda, "exp_diff");
  EXPECT_EQ(preset("diffmamba2-6.9b").head_dim, 64);
  EXPECT_EQ(preset("diffmamba2-tiny").vocab_size, 257);
  const ModelConfig paper = preset("diffmamba2-paper6");
  EXPECT_EQ(layer_letters(paper), "DDFDDFDDFDDFDDFDDF");
  EXPECT_EQ(layer_letters(preset("diffmamba2-paper12")).size(), 36u);
  EXPECT_EQ(paper.norm + paper.block_norm, "layerpost");
  const std::string parity = layer_letters(preset("diffmamba2-parity"));
  for (const char letter : {'D', 'M', 'S', 'F'}) EXPECT_NE(parity.find(letter), std::string::npos);
  EXPECT_EQ(preset("diffmamba2-parity").d_model / preset("diffmamba2-parity").head_dim, 8);
}

TEST(Presets, APatternMayBeOverridden) {
  ModelConfig config = preset("diffmamba2-370m");
  config.pattern = "alternate";
  EXPECT_EQ(layer_letters(config).substr(0, 4), "DMDM");
  config.pattern = "M*36 D*12";
  EXPECT_EQ(layer_letters(config).size(), 48u);
}

TEST(Presets, UnknownNameListsTheKnown) {
  const std::string message = test::refusal(ExitCode::usage, [] { preset("diffmamba2-3b"); });
  EXPECT_THAT(message,
              testing::HasSubstr("--preset diffmamba2-3b: no such preset; known: diffmamba2-130m, "));
  EXPECT_THAT(message, testing::HasSubstr("mamba1-tiny"));
}

}  // namespace
}  // namespace dm::model
