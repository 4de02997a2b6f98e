// The merged execution against the plain form, which takes one branch after the other, and what both must be
// when λ is 0.

#include <gmock/gmock.h>

#include "kernels/norm/norm.h"
#include "model/lambda.h"
#include "model/layers/registry.h"
#include "tests/model/models.h"

namespace dm::model {
namespace {

constexpr int64_t kBatch = 2, kLength = 21;  // two chunks and a ragged third

/// Layer 1 of a model, with an input.
struct OneLayer {
  explicit OneLayer(const ModelConfig& c, bool packed = true)
      : config(c),
        parameters(random_parameters(config, at::kDouble)),
        view{config, 1, Scope(parameters, layer_prefix(1))},
        kind(layer_kind(layer_letters(config)[1])),
        u(random_normal({kBatch, kLength, config.d_model}, at::kDouble, 3).set_requires_grad(true)),
        seq_idx(packed ? documents(kBatch, kLength) : one_document(kBatch, kLength)) {}

  at::Tensor merged() const { return normalised_output(*kind.bind(view), u, seq_idx, config.norm_eps); }
  PlainDifference plain() const { return kind.plain(view, u, seq_idx); }
  /// Gradients of sum(y · dy) in u and all parameters of the layer.
  std::vector<at::Tensor> gradients(const at::Tensor& y) const {
    u.mutable_grad() = at::Tensor();
    for (const auto& [name, p] : parameters) p.mutable_grad() = at::Tensor();
    (y * random_normal({kBatch, kLength, config.d_model}, at::kDouble, 4)).sum().backward();
    std::vector<at::Tensor> all = {u.grad()};
    for (const auto& [name, p] : parameters)
      if (name.starts_with(layer_prefix(1)) && !name.ends_with("1.norm.weight")) all.push_back(p.grad());
    return all;
  }

  ModelConfig config;
  Parameters parameters;
  LayerView view;
  const LayerKind& kind;
  at::Tensor u, seq_idx;
};

std::vector<NamedConfig> every_difference() {
  std::vector<NamedConfig> all;
  for (const NamedConfig& base : every_layer()) {
    if (!layer_kind(layer_letters(base.config)[1]).has_difference()) continue;
    for (const bool subln : {true, false})
      for (const char* norm_group : {"all", "group"}) {
        NamedConfig c = base;
        c.config.subln = subln;
        if (std::string(norm_group) == "group") {
          if (base.config.mixer == "mamba1") continue;
          c.config.norm_group = norm_group;
          c.config.n_groups = 2;
        }
        c.name += std::string(subln ? " subln" : " no subln") + " norm_group " + norm_group;
        all.push_back(std::move(c));
      }
  }
  return all;
}

TEST(Difference, MergedIsPlainInValuesAndGradients) {
  // Both forms are the same sums in another order: a few hundred roundings of 1e-16.
  for (const NamedConfig& c : every_difference())
    for (const bool packed : {true, false}) {
      const OneLayer s(c.config, packed);
      const at::Tensor merged = s.merged(), plain = s.plain().output;
      EXPECT_LE(relative_error(merged, plain), 1e-12) << c.name << (packed ? " packed" : "");
      const auto a = s.gradients(merged), b = s.gradients(plain);
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_TRUE(a[i].defined() && b[i].defined()) << c.name << ", gradient " << i;
        EXPECT_LE(relative_error(a[i], b[i]), 1e-10) << c.name << ", gradient " << i;
      }
    }
}

TEST(Difference, LambdaZeroIsOneBranch) {
  for (const std::string& mixer : std::vector<std::string>{"mamba2", "mamba1"})
    for (const bool subln : {true, false}) {
      ModelConfig config = small_config("DD", mixer, "scalar");
      config.subln = subln;
      const OneLayer s(config);
      const double factor = 1 - lambda_init(1);
      const std::string prefix = layer_prefix(1);
      s.parameters.at(prefix + "lambda_theta").detach().fill_(-lambda_init(1));
      const at::Tensor y_1 = s.plain().y_1;
      const at::Tensor expected =
          subln ? kernels::rms_norm(y_1, s.parameters.at(prefix + "subln.weight"), config.norm_eps) * factor
                : y_1 * factor;
      EXPECT_LE(relative_error(s.merged(), expected), 1e-13) << mixer;
    }
}

TEST(Difference, LambdaStartsAsPublished) {
  EXPECT_NEAR(lambda_init(0), 0.2, 1e-15);
  EXPECT_NEAR(lambda_init(1), 0.35550906759096927, 1e-15);
  EXPECT_NEAR(lambda_init(1000), 0.8, 1e-15);
}

TEST(Difference, HeadsMayBeReordered) {
  // Swapping the two heads of both branches, in every tensor that knows heads, changes nothing but the order
  // of sums.
  ModelConfig config = small_config("DD", "mamba2", "head");
  const OneLayer s(config);
  const at::Tensor before = s.merged().detach().clone();
  const auto swap = [&](const std::string& name, int64_t begin, int64_t width, int64_t dim = 0) {
    at::Tensor t = s.parameters.at(layer_prefix(1) + name).detach();
    const at::Tensor first = t.narrow(dim, begin, width).clone();
    t.narrow(dim, begin, width).copy_(t.narrow(dim, begin + width, width).clone());
    t.narrow(dim, begin + width, width).copy_(first);
  };
  const int64_t e = config.d_model, p = config.head_dim, n = config.d_state;
  for (const std::string& mixer : std::vector<std::string>{"mixer_1.", "mixer_2."}) {
    swap(mixer + "in_proj.weight", 0, p);              // z
    swap(mixer + "in_proj.weight", e, p);              // x
    swap(mixer + "in_proj.weight", 2 * e + 2 * n, 1);  // dt
    for (const char* conv : {"conv1d.weight", "conv1d.bias", "norm.weight"}) swap(mixer + conv, 0, p);
    for (const char* head : {"dt_bias", "A_log", "D"}) swap(mixer + head, 0, 1);
    swap(mixer + "out_proj.weight", 0, p, 1);
  }
  EXPECT_GT(relative_error(s.merged(), before), 1e-3);  // λ by head is still to be moved
  swap("lambda_theta", 0, 1);
  EXPECT_LE(relative_error(s.merged(), before), 1e-13);
}

TEST(Difference, StatisticsAreThoseOfThePlainBranches) {
  const ModelConfig config = small_config("MDSF", "mamba2", "token_head");
  const LanguageModel model(config, random_parameters(config, at::kDouble));
  const at::Tensor ids = random_ids(kBatch, kLength, config.vocab_size, 5),
                   seq_idx = documents(kBatch, kLength);
  const std::vector<DifferenceStats> stats = model.difference_stats(ids, seq_idx);
  ASSERT_EQ(stats.size(), 2u);
  EXPECT_EQ(stats[0].layer, 1);
  EXPECT_EQ(stats[1].layer, 2);

  at::Tensor h;
  LanguageModel::Taps taps{{0}, [&](int64_t, const at::Tensor& hidden) { h = hidden; }};
  model.hidden(ids, seq_idx, &taps);
  const LayerView view = model.layer(1);
  const at::Tensor u = kernels::rms_norm(h, view.parameters["norm.weight"], config.norm_eps);
  const PlainDifference d = model.kind(1).plain(view, u, seq_idx);
  EXPECT_NEAR(stats[0].lambda, d.lambda.mean().item<double>(), 1e-12);
  EXPECT_NEAR(stats[0].norm_1, d.y_1.norm(2, -1).mean().item<double>(), 1e-12);
  EXPECT_NEAR(stats[0].norm_2, d.y_2.norm(2, -1).mean().item<double>(), 1e-12);
  EXPECT_NEAR(stats[0].cosine, at::cosine_similarity(d.y_1, d.y_2, -1).mean().item<double>(), 1e-10);
  EXPECT_LT(std::abs(stats[0].cosine), 1);
}

}  // namespace
}  // namespace dm::model
