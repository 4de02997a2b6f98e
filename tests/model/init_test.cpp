#include <gmock/gmock.h>

#include <cmath>

#include "core/parallel.h"
#include "tests/model/models.h"

namespace dm::model {
namespace {

const ParameterInfo& info_of(const std::vector<ParameterInfo>& infos, const std::string& name) {
  for (const ParameterInfo& info : infos)
    if (info.name == name) return info;
  throw std::out_of_range(name);
}

at::Tensor initial(const ModelConfig& config, const std::string& name, uint64_t seed = 1,
                   at::ScalarType dtype = at::kDouble) {
  const auto infos = parameter_infos(config);
  const ParameterInfo& info = info_of(infos, name);
  at::Tensor values = at::empty(info.shape, dtype);
  initialise(config, info, seed, 0, values);
  return values;
}

double largest(const at::Tensor& t) { return t.abs().max().item<double>(); }

TEST(Initialise, EverySliceDrawsTheSameBits) {
  const ModelConfig config = small_config("DMSF");
  for (const ParameterInfo& info : parameter_infos(config)) {
    at::Tensor whole = at::empty({info.count()}, at::kFloat);
    initialise(config, info, 7, 0, whole);
    for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1},
                                       {info.count() - 1, 1},
                                       {info.count() / 3, info.count() / 2},
                                       {0, 0}}) {
      at::Tensor slice = at::empty({count}, at::kFloat);
      initialise(config, info, 7, begin, slice);
      EXPECT_TRUE(same_bits(slice, whole.narrow(0, begin, count))) << info.name << " from " << begin;
    }
  }
}

TEST(Initialise, ThreadsChangeNoBit) {
  ModelConfig config = small_config("D");
  config.vocab_size = 5000;  // several blocks
  const int64_t threads = dm::threads();
  set_threads(1);
  const at::Tensor alone = initial(config, "backbone.embeddings.weight");
  set_threads(3);
  const at::Tensor together = initial(config, "backbone.embeddings.weight");
  set_threads(threads);
  EXPECT_TRUE(same_bits(alone, together));
}

TEST(Initialise, NamesAndSeedsTellDrawsApart) {
  const ModelConfig config = small_config("DD");
  const std::string tail = "mixer_1.in_proj.weight";
  const at::Tensor first = initial(config, "backbone.layers.0." + tail);
  EXPECT_FALSE(same_bits(first, initial(config, "backbone.layers.1." + tail)));
  EXPECT_FALSE(same_bits(first, initial(config, "backbone.layers.0.mixer_2.in_proj.weight")));
  EXPECT_FALSE(same_bits(first, initial(config, "backbone.layers.0." + tail, 2)));
}

TEST(Initialise, NarrowTypesRoundTheSameDraw) {
  const ModelConfig config = small_config("D");
  const std::string name = "backbone.layers.0.mixer_1.in_proj.weight";
  EXPECT_TRUE(same_bits(initial(config, name, 1, at::kBFloat16), initial(config, name).to(at::kBFloat16)));
  EXPECT_TRUE(same_bits(initial(config, name, 1, at::kFloat), initial(config, name).to(at::kFloat)));
}

TEST(Initialise, TheGeneratorIsPinned) {
  // Changing these changes every model ever started from a seed.
  const at::Tensor w = initial(small_config("D"), "backbone.layers.0.mixer_1.in_proj.weight").flatten();
  EXPECT_EQ(w[0].item<double>(), 0x1.d31792906b94p-4);
  EXPECT_EQ(w[100].item<double>(), 0x1.d15df5dbd28e4p-4);
}

TEST(Initialise, DistributionsOfMamba2) {
  ModelConfig config = small_config("D*9");
  config.d_model = 256;
  const std::string p = "backbone.layers.0.mixer_1.";
  const at::Tensor w = initial(config, p + "in_proj.weight");
  EXPECT_LE(largest(w), 1 / 16.0);
  EXPECT_GE(largest(w), 0.999 / 16);
  EXPECT_NEAR(w.mean().item<double>(), 0, 4e-4);  // 6 standard errors of 1.4e5 draws are 6e-4
  EXPECT_NEAR(w.std().item<double>(), 1 / 16.0 / std::sqrt(3.0), 4e-4);
  EXPECT_LE(largest(initial(config, p + "out_proj.weight")), 1 / 16.0 / 3);  // nine layers
  EXPECT_GE(largest(initial(config, p + "out_proj.weight")), 0.999 / 16 / 3);
  EXPECT_LE(largest(initial(config, p + "conv1d.weight")), 0.5);
  EXPECT_LE(largest(initial(config, p + "conv1d.bias")), 0.5);
  const at::Tensor a = initial(config, p + "A_log").exp(),
                   step = at::softplus(initial(config, p + "dt_bias"));
  EXPECT_GE(a.min().item<double>(), 1);
  EXPECT_LE(a.max().item<double>(), 16);
  EXPECT_GE(a.max().item<double>() - a.min().item<double>(), 5);  // 32 heads spread
  EXPECT_GE(step.min().item<double>(), 1e-3 * (1 - 1e-12));
  EXPECT_LE(step.max().item<double>(), 1e-1 * (1 + 1e-12));
  EXPECT_NEAR(step.log().mean().item<double>(), std::log(1e-2), 1);  // uniform in the logarithm
  for (const char* ones : {"D", "norm.weight"})
    EXPECT_TRUE(at::equal(initial(config, p + ones), at::ones_like(initial(config, p + ones))));
  const at::Tensor embedding = initial(config, "backbone.embeddings.weight");
  EXPECT_NEAR(embedding.std().item<double>(), 0.02, 0.001);
  EXPECT_NEAR(initial(config, "backbone.layers.0.lambda_q1").std().item<double>(), 1, 0.2);
}

TEST(Initialise, DistributionsOfMamba1) {
  const ModelConfig config = small_config("M", "mamba1");
  const std::string p = "backbone.layers.0.mixer.";
  const at::Tensor a = initial(config, p + "A_log").exp();
  for (int64_t n = 0; n < config.d_state; ++n)
    EXPECT_NEAR(largest(a.select(1, n) - static_cast<double>(n + 1)), 0, 1e-14);
  const at::Tensor step = at::softplus(initial(config, p + "dt_proj.bias"));
  EXPECT_GE(step.min().item<double>(), 1e-3 * (1 - 1e-12));
  EXPECT_LE(step.max().item<double>(), 1e-1 * (1 + 1e-12));
  EXPECT_LE(largest(initial(config, p + "dt_proj.weight")), 1);  // rank 1
}

TEST(ParameterInfos, DecayIsOfProjectionsConvolutionsAndEmbeddings) {
  for (const std::string& mixer : std::vector<std::string>{"mamba2", "mamba1"}) {
    ModelConfig config = small_config("DMSF", mixer, "token");
    config.tied = false;
    config.norm = "layer";
    for (const ParameterInfo& info : parameter_infos(config)) {
      const auto ends = [&](const char* tail) { return info.name.ends_with(tail); };
      const bool lambda = info.name.find("lambda") != std::string::npos;
      const bool matrix = ends("proj.weight") || ends("proj_1.weight") || ends("proj_2.weight") ||
                          ends("conv1d.weight") || ends("embeddings.weight") || ends("lm_head.weight") ||
                          ends("up.weight") || ends("down.weight");
      EXPECT_EQ(info.decay, matrix && !lambda) << info.name;
    }
  }
}

TEST(ParameterInfos, NamesOfTheInterchangeLayout) {
  std::vector<std::string> names;
  ModelConfig config = small_config("DS");
  config.tied = false;
  for (const ParameterInfo& info : parameter_infos(config)) names.push_back(info.name);
  EXPECT_EQ(names.front(), "backbone.embeddings.weight");
  EXPECT_EQ(names.back(), "lm_head.weight");
  EXPECT_EQ(names[names.size() - 2], "backbone.norm_f.weight");
  const char* const d = "backbone.layers.0.";
  const char* const s = "backbone.layers.1.mixer.";
  for (const char* name : {"norm.weight", "mixer_1.in_proj.weight", "mixer_1.conv1d.weight",
                           "mixer_1.conv1d.bias", "mixer_1.dt_bias", "mixer_1.A_log", "mixer_1.D",
                           "mixer_1.norm.weight", "mixer_2.out_proj.weight", "lambda_q1", "subln.weight"})
    EXPECT_THAT(names, testing::Contains(std::string(d) + name));
  for (const char* name : {"in_proj_1.weight", "in_proj_2.weight", "conv1d.weight", "dt_bias_1", "A_log_2",
                           "D_2", "norm.weight", "lambda_q1", "subln.weight", "out_proj.weight"})
    EXPECT_THAT(names, testing::Contains(std::string(s) + name));
  EXPECT_EQ(names.size(), 2 + 1 + (1 + 16 + 2) + (1 + 8 + 4 + 2) + 0u);
}

}  // namespace
}  // namespace dm::model
