#include <gmock/gmock.h>

#include <set>

#include "kernels/norm/norm.h"
#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

struct Rows {
  at::Tensor ids, seq_idx;
};
Rows rows(const ModelConfig& config, int64_t length = 27, int64_t batch = 2) {
  return {random_ids(batch, length, config.vocab_size, 11), documents(batch, length)};
}

TEST(LanguageModel, ChunkSizeChangesRoundingOnly) {
  for (const NamedConfig& c : every_layer()) {
    if (c.config.mixer != "mamba2") continue;
    const Parameters parameters = random_parameters(c.config, at::kDouble);
    for (const int64_t length : {1, 2, 3, 7, 8, 9, 27}) {  // W − 1 = 3, Q ± 1 of 8, nothing divides 27
      const Rows r = rows(c.config, length);
      ModelConfig other = c.config;
      const at::Tensor reference = LanguageModel(other, parameters).logits(r.ids, r.seq_idx);
      for (const int64_t chunk : {1, 5, 64}) {
        other.chunk_size = chunk;
        EXPECT_LE(relative_error(LanguageModel(other, parameters).logits(r.ids, r.seq_idx), reference), 1e-13)
            << c.name << ", length " << length << ", chunk " << chunk;
      }
    }
  }
}

TEST(LanguageModel, Float32FollowsFloat64) {
  for (const NamedConfig& c : every_layer()) {
    const Rows r = rows(c.config);
    const at::Tensor wide =
        LanguageModel(c.config, random_parameters(c.config, at::kDouble)).logits(r.ids, r.seq_idx);
    const at::Tensor narrow =
        LanguageModel(c.config, random_parameters(c.config, at::kFloat)).logits(r.ids, r.seq_idx);
    EXPECT_LE(relative_error(narrow, wide), 1e-5) << c.name;
  }
}

TEST(LanguageModel, LossIsTheCrossEntropyOfTheLogits) {
  for (const bool tied : {true, false}) {
    ModelConfig config = small_config("DMSF");
    config.tied = tied;
    const LanguageModel model(config, random_parameters(config, at::kDouble));
    const at::Tensor tokens = random_ids(2, 28, config.vocab_size, 11), seq_idx = documents(2, 27);
    at::Tensor mask = at::ones({2, 27}, at::kByte);
    mask[0][3] = 0;
    at::Tensor per_target;
    const at::Tensor sum = model.loss_sum(tokens, seq_idx, mask, &per_target);
    const at::Tensor log_p = at::log_softmax(model.logits(tokens.narrow(1, 0, 27), seq_idx), -1);
    const at::Tensor nll = -log_p.gather(2, tokens.narrow(1, 1, 27).unsqueeze(-1)).squeeze(-1) * mask;
    EXPECT_LE(relative_error(sum, nll.sum()), 1e-13);
    EXPECT_LE(relative_error(per_target, nll), 1e-13);
    EXPECT_EQ(per_target[0][3].item<double>(), 0);
  }
}

TEST(LanguageModel, TiedIsUntiedWithEqualWeights) {
  ModelConfig config = small_config("DM");
  Parameters parameters = random_parameters(config, at::kDouble);
  const Rows r = rows(config);
  const at::Tensor tied = LanguageModel(config, parameters).logits(r.ids, r.seq_idx);
  config.tied = false;
  parameters["lm_head.weight"] = parameters.at("backbone.embeddings.weight").detach().clone();
  EXPECT_TRUE(same_bits(LanguageModel(config, parameters).logits(r.ids, r.seq_idx), tied));
}

TEST(LanguageModel, UnpackedRowsAreOneDocument) {
  ModelConfig config = small_config("DMS");
  const Parameters parameters = random_parameters(config, at::kDouble);
  const Rows r = rows(config);
  const at::Tensor apart = LanguageModel(config, parameters).logits(r.ids, r.seq_idx);
  const at::Tensor one = LanguageModel(config, parameters).logits(r.ids, at::zeros_like(r.seq_idx));
  config.packed = false;
  EXPECT_TRUE(same_bits(LanguageModel(config, parameters).logits(r.ids, r.seq_idx), one));
  EXPECT_GT(relative_error(apart, one), 1e-3);
}

TEST(LanguageModel, PackedDocumentsAreThoseDocumentsAlone) {
  for (const NamedConfig& c : every_layer()) {
    const LanguageModel model(c.config, random_parameters(c.config, at::kDouble));
    const Rows r = rows(c.config, 27, 1);
    const at::Tensor packed = model.logits(r.ids, r.seq_idx);
    for (int64_t begin = 0, end = 0; begin < 27; begin = end) {
      while (end < 27 && r.seq_idx[0][end].item<int>() == r.seq_idx[0][begin].item<int>()) ++end;
      const at::Tensor alone =
          model.logits(r.ids.narrow(1, begin, end - begin), one_document(1, end - begin));
      EXPECT_LE(relative_error(packed.narrow(1, begin, end - begin), alone), 1e-13)
          << c.name << " from " << begin;
    }
  }
}

TEST(LanguageModel, TapsSeeTheResidualStream) {
  const ModelConfig config = small_config("DMF");
  const Parameters parameters = random_parameters(config, at::kDouble);
  const LanguageModel model(config, parameters);
  const Rows r = rows(config);
  std::map<int64_t, at::Tensor> seen;
  const LanguageModel::Taps taps{{-1, 1, 2}, [&](int64_t layer, const at::Tensor& h) { seen[layer] = h; }};
  const at::Tensor last = model.hidden(r.ids, r.seq_idx, &taps);
  EXPECT_THAT(seen, testing::SizeIs(3));
  EXPECT_TRUE(same_bits(
      seen.at(-1),
      parameters.at("backbone.embeddings.weight").index_select(0, r.ids.flatten()).view({2, 27, 16})));
  const at::Tensor normed =
      kernels::rms_norm(seen.at(2), parameters.at("backbone.norm_f.weight"), config.norm_eps);
  EXPECT_TRUE(same_bits(normed, last));
  EXPECT_GT(relative_error(seen.at(1), seen.at(2)), 1e-3);
  EXPECT_TRUE(same_bits(model.hidden(r.ids, r.seq_idx), last));
}

TEST(LanguageModel, NormsBeforeAndAfterTheBlock) {
  for (const char* norm : {"rms", "layer"})
    for (const char* place : {"pre", "post"}) {
      ModelConfig config = small_config("F");
      config.norm = norm;
      config.block_norm = place;
      const Parameters p = random_parameters(config, at::kDouble);
      const auto at_ = [&](const std::string& name) { return p.at("backbone." + name).detach(); };
      const auto normalise = [&](const at::Tensor& x, const std::string& name) {
        const at::Tensor weight = at_(name + ".weight");
        if (std::string(norm) == "layer")
          return at::layer_norm(x, {config.d_model}, weight, at_(name + ".bias"), config.norm_eps);
        return x / (x.pow(2).mean(-1, true) + config.norm_eps).sqrt() * weight;
      };
      const auto block = [&](const at::Tensor& u) {
        const auto f = [&](const char* name) { return at_(std::string("layers.0.ff.") + name); };
        return at::linear(at::gelu(at::linear(u, f("up.weight"), f("up.bias"))), f("down.weight"),
                          f("down.bias"));
      };
      const Rows r = rows(config);
      const at::Tensor h = at::embedding(at_("embeddings.weight"), r.ids);
      const at::Tensor after = std::string(place) == "pre" ? h + block(normalise(h, "layers.0.norm"))
                                                           : normalise(h + block(h), "layers.0.norm");
      EXPECT_LE(relative_error(LanguageModel(config, p).hidden(r.ids, r.seq_idx), normalise(after, "norm_f")),
                1e-13)
          << norm << place;
    }
}

TEST(LanguageModel, StepLimitsClamp) {
  ModelConfig config = small_config("D");
  const Parameters parameters = random_parameters(config, at::kDouble);
  const Rows r = rows(config);
  const at::Tensor free = LanguageModel(config, parameters).logits(r.ids, r.seq_idx);
  config.dt_limit_max = 1e9;
  EXPECT_TRUE(same_bits(LanguageModel(config, parameters).logits(r.ids, r.seq_idx), free));
  config.dt_limit_max = 1e-3;
  EXPECT_GT(relative_error(LanguageModel(config, parameters).logits(r.ids, r.seq_idx), free), 1e-3);
}

TEST(LanguageModel, SeesWhatIsWrittenIntoItsLeaves) {
  const ModelConfig config = small_config("D");
  const Parameters parameters = random_parameters(config, at::kDouble);
  const LanguageModel model(config, parameters);
  const Rows r = rows(config);
  const at::Tensor before = model.logits(r.ids, r.seq_idx);
  parameters.at("backbone.layers.0.mixer_2.out_proj.weight").detach().mul_(2);
  EXPECT_GT(relative_error(model.logits(r.ids, r.seq_idx), before), 1e-3);
}

TEST(LanguageModel, RefusesOtherWeights) {
  const ModelConfig config = small_config("D");
  const std::string name = "backbone.layers.0.mixer_1.in_proj.weight";
  const auto refusal = [&](const std::function<void(Parameters&)>& change) {
    Parameters parameters = random_parameters(config, at::kFloat);
    change(parameters);
    return test::refusal(ExitCode::bad_data, [&] { LanguageModel(config, parameters); });
  };
  EXPECT_EQ(refusal([&](Parameters& p) { p.erase(name); }),
            name + " is missing: the weights are not of this model");
  EXPECT_EQ(refusal([&](Parameters& p) { p["extra"] = at::zeros({1}); }),
            "extra is no parameter of this model");
  EXPECT_THAT(refusal([&](Parameters& p) {
                p[name] = at::zeros({42, 17});
              }),
              testing::HasSubstr("is [42, 17], this model's is [42, 16]"));
  EXPECT_THAT(refusal([&](Parameters& p) {
                p[name] = at::zeros({42, 16}, at::kDouble);
              }),
              testing::HasSubstr("share one floating type"));
}

TEST(LanguageModel, DropoutIsOfTrainingAlone) {
  ModelConfig config = small_config("DMSF");
  const Parameters parameters = random_parameters(config, at::kDouble);
  const at::Tensor tokens = random_ids(2, 14, config.vocab_size, 71), seq_idx = documents(2, 13),
                   mask = at::ones({2, 13}, at::kByte);
  const auto loss = [&](const ModelConfig& c, const LanguageModel::TrainingRows* rows) {
    return LanguageModel(c, parameters).loss_sum(tokens, seq_idx, mask, nullptr, rows).item<double>();
  };
  LanguageModel::TrainingRows rows = training_rows(2), later = rows, seeded = rows;
  later.samples = rows.samples + 2;
  ++seeded.seed;
  const double without = loss(config, nullptr);
  EXPECT_EQ(loss(config, &rows), without) << "nothing is dropped unless asked for";
  std::set<double> seen = {without};
  for (double ModelConfig::*part :
       {&ModelConfig::dropout, &ModelConfig::embedding_dropout, &ModelConfig::head_dropout}) {
    ModelConfig c = config;
    c.*part = 0.5;
    EXPECT_EQ(loss(c, nullptr), without) << "evaluation drops nothing";
    for (const LanguageModel::TrainingRows* of : {&rows, &later, &seeded}) {
      EXPECT_TRUE(seen.insert(loss(c, of)).second) << "every place, row and seed has masks of its own";
      EXPECT_EQ(loss(c, of), loss(c, of));
    }
  }
}

TEST(LanguageModel, RecomputedLayersChangeNoBit) {
  std::vector<NamedConfig> configs = every_layer();
  configs.push_back({"dropout", small_config("DMSF")});
  configs.back().config.dropout = 0.5;
  const LanguageModel::TrainingRows rows = training_rows(2);
  for (const NamedConfig& c : configs) {
    const at::Tensor tokens = random_ids(2, 14, c.config.vocab_size, 71), seq_idx = documents(2, 13),
                     mask = at::ones({2, 13}, at::kByte);
    const auto gradients = [&](const std::string& policy, int64_t layers) {
      ModelConfig config = c.config;
      config.recompute = policy, config.recompute_layers = layers;
      const Parameters parameters = random_parameters(config, at::kDouble);
      const LanguageModel model(config, parameters);
      model.loss_sum(tokens, seq_idx, mask, nullptr, &rows).backward();
      return parameters;
    };
    const Parameters expected = gradients("conv", 0);
    for (const int64_t layers : {0, 1})
      for (const auto& [name, parameter] : gradients("block", layers)) {
        ASSERT_TRUE(parameter.grad().defined()) << c.name << ": " << name;
        EXPECT_TRUE(same_bits(parameter.grad(), expected.at(name).grad())) << c.name << ": " << name;
      }
  }
}

}  // namespace
}  // namespace dm::model
