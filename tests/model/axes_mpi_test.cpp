// The model on several ranks against itself on one: initial weights, loss, hidden states, logits and every
// gradient, on every layout that as many ranks as there are can make of the tensor and the context axis.

#include <gtest/gtest.h>

#include "kernels/comm/transport.h"
#include "model/local_parameters.h"
#include "tests/model/layouts.h"

namespace dm::model {
namespace {

// The same sums in another order, in float64: a few hundred roundings of 1e-16 each, grown by cancellation.
constexpr double kForward = 1e-12, kGradient = 1e-11;

TEST(Axes, InitialWeightsAreThoseOfOneRank) {
  for (const Layout& layout : layouts())
    for (const NamedConfig& c : layout_configs())
      for (const LocalParameter& local : local_parameters(c.config, layout.placement)) {
        const at::Tensor whole = at::empty(local.info.shape, at::kFloat),
                         mine = at::empty(local.shape, at::kFloat);
        initialise(c.config, local.info, 5, 0, whole);
        initialise(c.config, local, 5, mine);
        EXPECT_TRUE(same_bits(mine, local_part(local, whole)))
            << layout.name << " " << c.name << " " << local.info.name;
      }
}

TEST(Axes, LossAndGradientsAreThoseOfOneRank) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    for (const Layout& layout : layouts()) {
      const std::string what = layout.name + " " + c.name;
      const Placed placed(truth, layout);
      EXPECT_LE(relative_error(placed.loss(), truth.loss), kForward) << what;
      EXPECT_LE(relative_error(placed.per_target(), truth.per_target), kForward) << what;
      for (const auto& [name, gradient] : placed.gradients()) {
        const at::Tensor& expected = truth.parameters.at(name).grad();
        ASSERT_TRUE(expected.defined()) << what << " " << name;
        EXPECT_LE((gradient - expected).norm().item<double>(), kGradient * expected.norm().item<double>())
            << what << " " << name;
      }
    }
  }
}

TEST(Axes, HiddenStatesAndLogitsAreThoseOfOneRank) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    const Trace expected = truth.trace();
    for (const Layout& layout : layouts()) {
      const Trace mine = Placed(truth, layout).trace();
      ASSERT_EQ(mine.hidden.size(), expected.hidden.size());
      for (size_t i = 0; i < mine.hidden.size(); ++i)
        EXPECT_LE(relative_error(mine.hidden[i], layout.own(expected.hidden[i])), kForward)
            << layout.name << " " << c.name << " hidden " << i;
      EXPECT_LE(relative_error(mine.logits, layout.own(expected.logits)), kForward)
          << layout.name << " " << c.name;
    }
  }
}

}  // namespace
}  // namespace dm::model
