// AdamW through the whole path of a step against the textbook in float64, and what is left alone.

#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/rng.h"
#include "train/sharded_optimizer.h"

namespace dm::train {
namespace {

model::ParameterInfo info(const std::string& name, std::vector<int64_t> shape, bool decay) {
  model::ParameterInfo result;
  result.name = name, result.shape = std::move(shape), result.decay = decay;
  return result;
}

/// One scalar of torch.optim.AdamW, as its documentation writes it, in extended precision.
struct Textbook {
  long double weight, m = 0, v = 0;
  void update(const OptimizerConfig& c, bool decay, long double gradient, long double lr, int64_t step) {
    if (decay) weight -= lr * static_cast<long double>(c.weight_decay) * weight;
    m = c.beta1 * m + (1 - static_cast<long double>(c.beta1)) * gradient;
    v = c.beta2 * v + (1 - static_cast<long double>(c.beta2)) * gradient * gradient;
    const long double m_hat =
        m / (1 - std::pow(static_cast<long double>(c.beta1), static_cast<long double>(step)));
    const long double v_hat =
        v / (1 - std::pow(static_cast<long double>(c.beta2), static_cast<long double>(step)));
    weight -= lr * m_hat / (std::sqrt(v_hat) + static_cast<long double>(c.eps));
  }
};

void compare_with_textbook(DType dtype, double tolerance) {
  const auto group = make_single_process_collectives();
  FlatParameters parameters({info("matrix", {7, 11}, true), info("vector", {13}, false)}, dtype, *group);
  const OptimizerConfig config{.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.3};
  ShardedOptimizer optimizer(config, parameters);

  const CounterRng random(3, "optimizer_test");
  std::map<std::string, std::vector<Textbook>> expected;
  uint64_t draw = 0;
  for (const auto& [name, leaf] : parameters.leaves())
    for (int64_t i = 0; i < leaf.numel(); ++i) {
      const double weight = static_cast<float>(random.normal(draw++));  // exact in either type
      leaf.detach().view(-1)[i].fill_(weight);
      expected[name].push_back({weight});
    }
  for (int64_t step = 1; step <= 5; ++step) {
    const double lr = 0.1 / static_cast<double>(step), scale = 0.25;
    for (const auto& [name, leaf] : parameters.leaves())
      for (int64_t i = 0; i < leaf.numel(); ++i) {
        const double gradient = static_cast<float>(random.normal(draw++));
        leaf.grad().view(-1)[i].fill_(gradient);
        expected[name][static_cast<size_t>(i)].update(config, name == "matrix", gradient * scale, lr, step);
      }
    parameters.reduce_gradients();
    optimizer.update(lr, scale);
    for (const auto& [name, leaf] : parameters.leaves())
      for (int64_t i = 0; i < leaf.numel(); ++i)
        EXPECT_NEAR(leaf.detach().view(-1)[i].item<double>(), expected[name][static_cast<size_t>(i)].weight,
                    tolerance)
            << name << "[" << i << "] after step " << step;
  }
  EXPECT_EQ(optimizer.updates(), 5);
}

// Weights are of size 1 and move by 0.1 a step, some ten roundings each: 5 steps stay within 64 units in the
// last place.
TEST(AdamW, FollowsTheTextbookInFloat64) { compare_with_textbook(DType::f64, 64 * 0x1p-53); }
TEST(AdamW, FollowsTheTextbookInFloat32) { compare_with_textbook(DType::f32, 64 * 0x1p-24); }

TEST(Optimizer, EveryNameMakesOne) {
  for (const std::string& name : optimizer_names()) {
    const auto optimizer = make_optimizer({.optimizer = name});
    EXPECT_FALSE(optimizer->slots().empty()) << name;
  }
}

}  // namespace
}  // namespace dm::train
