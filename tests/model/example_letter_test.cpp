// Adding a layer letter, by example: a gated feed-forward layer, G, down(SiLU(gate u) ⊙ up u).
//
// To put such a layer into the house: move the two classes to model/layers/gated_feed_forward.cpp, name that
// file in model/CMakeLists.txt, declare gated_feed_forward_kind() in model/layers/registry.h and add it to
// the list in registry.cpp. Patterns, parameters, initial values, decoding, costs, messages and the tests
// over all letters then know it.

#include <gtest/gtest.h>

#include <torch/csrc/autograd/variable.h>

#include "kernels/linear/linear.h"
#include "model/layers/registry.h"
#include "tests/model/models.h"

namespace dm::model {
namespace {

constexpr int64_t kExpansion = 3;

/// The layer bound to its weights: what happens between the norm and the residual add.
class GatedFeedForward final : public Layer {
 public:
  explicit GatedFeedForward(const LayerView& view) {
    const Scope p = view.parameters.inside("ff.");
    in_ = at::cat({p["gate.weight"], p["up.weight"]});
    down_ = p["down.weight"];
  }

  at::Tensor forward(const at::Tensor& u, const at::Tensor&) const override {
    const auto gate_up = kernels::linear(u, in_).chunk(2, -1);         // [.., 3D] twice
    return kernels::linear(at::silu(gate_up[0]) * gate_up[1], down_);  // [.., D]
  }

  at::Tensor step(const at::Tensor& u, DecodeState&) const override {
    return forward(u, {});
  }  // carries nothing

 private:
  at::Tensor in_;    // [6D, D]
  at::Tensor down_;  // [D, 3D]
};

/// What the house knows of the letter.
class GatedFeedForwardKind final : public LayerKind {
 public:
  char letter() const override { return 'G'; }
  const char* name() const override { return "gated feed-forward"; }
  void validate(const ModelConfig&) const override {}  // every width fits

  void declare(const ModelConfig& config, int64_t, const Declare& declare) const override {
    const int64_t narrow = config.d_model, wide = kExpansion * narrow;
    declare.matrix("ff.gate.weight", {wide, narrow}, Init::linear(narrow));
    declare.matrix("ff.up.weight", {wide, narrow}, Init::linear(narrow));
    declare.matrix("ff.down.weight", {narrow, wide}, Init::linear(wide));
  }

  std::unique_ptr<Layer> bind(const LayerView& view) const override {
    return std::make_unique<GatedFeedForward>(view);
  }

  std::vector<StageCost> stages(const ModelConfig& config) const override {
    const int64_t narrow = config.d_model, wide = kExpansion * narrow;
    const double bytes = 2.0 * static_cast<double>(wide);
    return {residual_cost(narrow),
            linear_cost("gate+up", narrow, 2 * wide),
            {"gate", 0, 0, 3 * bytes, 5 * bytes},
            linear_cost("down", wide, narrow)};
  }
};

TEST(ExampleLetter, IsALayerLikeAnyOther) {
  const GatedFeedForwardKind kind;
  EXPECT_EQ(find_layer_kind(kind.letter()), nullptr) << "an example must not take a letter of the house";
  const ModelConfig config = small_config("D");
  std::vector<ParameterInfo> infos;
  kind.declare(config, 0, Declare(infos));
  Parameters parameters;
  for (const ParameterInfo& info : infos) {
    at::Tensor values = at::empty(info.shape, at::kDouble);
    initialise(config, info, 1, 0, values);
    parameters.emplace(info.name, values.set_requires_grad(true));
  }
  const auto layer = kind.bind({config, 0, Scope(parameters, "")});

  const at::Tensor u = random_normal({2, 5, config.d_model}, at::kDouble, 2), seq_idx = documents(2, 5);
  const at::Tensor y = layer->forward(u, seq_idx);
  const auto w = [&](const char* name) { return parameters.at(std::string("ff.") + name + ".weight"); };
  const at::Tensor expected =
      at::linear(at::silu(at::linear(u, w("gate"))) * at::linear(u, w("up")), w("down"));
  EXPECT_LE(relative_error(y, expected), 1e-14);

  y.sum().backward();
  for (const auto& [name, parameter] : parameters)
    EXPECT_GT(parameter.grad().norm().item<double>(), 0) << name;
  DecodeState state = layer->new_state(2);
  EXPECT_LE(relative_error(layer->step(u.select(1, 3), state), y.select(1, 3)), 1e-14);

  double multiplied = 0;
  for (const StageCost& stage : kind.stages(config)) multiplied += stage.forward_flops / 2;
  EXPECT_EQ(multiplied, static_cast<double>(infos[0].count() + infos[1].count() + infos[2].count()));
}

}  // namespace
}  // namespace dm::model
