#include "model/cost.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/model/models.h"

namespace dm::model {
namespace {

ModelConfig preset(const std::string& name) {
  ModelConfig config;
  apply_preset(config, name);
  config.chunk_size = 128;
  return config;
}

TEST(Cost, ParametersAreCounted) {
  for (const std::string& name : preset_names()) {
    const ModelConfig config = preset(name);
    const ModelCost cost = model_cost(config);
    int64_t sum = cost.embedding_parameters;
    for (const LayerCost& layer : cost.layers) sum += layer.parameters;
    EXPECT_EQ(cost.parameters, parameter_count(config)) << name;
    EXPECT_EQ(sum, cost.parameters) << name;
    EXPECT_EQ(cost.layers.size(), layer_letters(config).size()) << name;
  }
}

TEST(Cost, EachLayerHasItsOwnParameters) {
  const ModelConfig config = small_config("DMSF DDDDDDDD");  // more than ten: layer 1 is not layer 10
  const ModelCost cost = model_cost(config);
  for (const LayerCost& layer : cost.layers) {
    int64_t count = 0;
    for (const ParameterInfo& info : parameter_infos(config))
      if (info.name.starts_with("backbone.layers." + std::to_string(layer.layer) + "."))
        count += info.count();
    EXPECT_EQ(layer.parameters, count) << layer.letter << layer.layer;
  }
}

TEST(Cost, StagesOfADifferentialLayer) {
  // The table of the performance page, written out for D 1024, H 64 of both branches, N 128, Q 128.
  const double d = 1024, h = 64, n = 128, q = 128, w = 4 * d + 4 * n + h, c = 2 * d + 4 * n, f = 0.75;
  const StageCost expected[] = {
      {"residual+norm", 0, 0, 12 * d, 18 * d},
      {"in_proj", 2 * d * w, 4 * d * w, 2 * d + 2 * w, 4 * d + 4 * w},
      {"conv", 8 * c, 24 * c, 4 * c + 10 * h, 6 * c},
      {"ssd", f * (4 * q * n + 4 * q * d) + 8 * n * d, f * (12 * q * n + 8 * q * d) + 16 * n * d,
       2 * c + 4 * d + 4 * n * d / q, 4 * c + 4 * d + 4 * n * d / q},
      {"gated_norm", 0, 0, 12 * d, 20 * d},
      {"out_proj", 4 * d * d, 8 * d * d, 6 * d, 12 * d}};
  const LayerCost layer = model_cost(preset("diffmamba2-370m")).layers[0];
  ASSERT_EQ(layer.stages.size(), std::size(expected));
  for (size_t i = 0; i < layer.stages.size(); ++i) {
    const StageCost &a = layer.stages[i], &b = expected[i];
    EXPECT_EQ(a.stage, b.stage);
    EXPECT_DOUBLE_EQ(a.forward_flops, b.forward_flops) << a.stage;
    EXPECT_DOUBLE_EQ(a.backward_flops, b.backward_flops) << a.stage;
    EXPECT_DOUBLE_EQ(a.forward_bytes, b.forward_bytes) << a.stage;
    EXPECT_DOUBLE_EQ(a.backward_bytes, b.backward_bytes) << a.stage;
  }
}

/// Tokens a second when every stage takes the longer of its two times on the GPU of the performance page.
double floor_tokens_per_second(const ModelCost& cost, double tokens_per_step) {
  constexpr double kFlops = 790e12, kBytes = 4.3e12;
  double seconds = cost.optimizer_bytes / kBytes / tokens_per_step;
  const auto add = [&](const StageCost& s) {
    seconds += std::max(s.forward_flops / kFlops, s.forward_bytes / kBytes) +
               std::max(s.backward_flops / kFlops, s.backward_bytes / kBytes);
  };
  for (const LayerCost& layer : cost.layers)
    for (const StageCost& stage : layer.stages) add(stage);
  add(cost.head);
  return 1 / seconds;
}

TEST(Cost, FloorsOfThePerformancePage) {
  // The page rounds the two rates, and spreads AdamW over another number of tokens: 3 % at most.
  const std::tuple<const char*, double, double> floors[] = {
      {"diffmamba2-130m", 16, 625e3}, {"diffmamba2-370m", 8, 230e3}, {"diffmamba2-1.3b", 8, 75.6e3}};
  for (const auto& [name, rows, floor] : floors)
    EXPECT_NEAR(floor_tokens_per_second(model_cost(preset(name)), rows * 2048) / floor, 1, 0.04) << name;
}

TEST(Cost, DifferentialCostsAsMuchAsPlain) {
  for (const char* mixer : {"2", "1"}) {
    const StageCost differential = model_cost(preset(std::string("diffmamba") + mixer + "-370m")).total();
    const StageCost plain = model_cost(preset(std::string("mamba") + mixer + "-370m")).total();
    EXPECT_NEAR(differential.forward_flops / plain.forward_flops, 1, 0.05) << mixer;
    EXPECT_NEAR(differential.backward_bytes / plain.backward_bytes, 1, 0.06) << mixer;
  }
}

TEST(Cost, ProjectionsDominateSixNs) {
  // The forward pass does two operations a parameter that multiplies (embedding rows are looked up), and the
  // scan's.
  const ModelConfig config = preset("diffmamba2-1.3b");
  const ModelCost cost = model_cost(config);
  const double matmul =
      2.0 * static_cast<double>(cost.parameters);  // the tied head multiplies by the embedding
  EXPECT_GT(cost.total().forward_flops, matmul);
  EXPECT_LT(cost.total().forward_flops, 1.2 * matmul);
}

}  // namespace
}  // namespace dm::model
