// F: down(GELU(up(u))), 4D wide.

#include "kernels/linear/linear.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

constexpr int64_t kExpansion = 4;

class FeedForward final : public Layer {
 public:
  explicit FeedForward(const LayerView& view) {
    const Scope p = view.parameters.inside("ff.");
    up_ = p.matrix("up.weight"), up_bias_ = p["up.bias"];
    down_ = p.matrix("down.weight");
    if (view.placement.tp_rank == 0) down_bias_ = p["down.bias"];  // once in the sum over the tensor ranks
  }

  at::Tensor forward(const at::Tensor& u, const kernels::Documents&) const override {
    const at::Tensor a = at::gelu(kernels::linear(u, up_, up_bias_));  // [B, L, 4D]
    return kernels::linear(a, down_, down_bias_);                      // [B, L, D]
  }

  at::Tensor step(StepStream& stream, DecodeState&) const override {
    const at::Tensor wide = stream.product(up_);
    return kernels::linear(at::gelu((wide + up_bias_).to(wide.scalar_type())), down_, down_bias_);  // [B, D]
  }

 private:
  kernels::Weight up_, down_;            // [4D, D], [D, 4D]
  at::Tensor up_bias_;                   // [4D]
  std::optional<at::Tensor> down_bias_;  // [D]
};

class FeedForwardKind final : public LayerKind {
 public:
  char letter() const override { return 'F'; }
  const char* name() const override { return "feed-forward"; }
  void validate(const ModelConfig&) const override {}  // every width fits

  TensorParts tensor_parts(const ModelConfig& config) const override {
    return {kExpansion * config.d_model, "channels"};
  }

  void declare(const ModelConfig& config, int64_t, const Declare& declare) const override {
    const int64_t narrow = config.d_model, wide = kExpansion * narrow;
    const std::vector<Run> dealt = deal(wide, 1, 0, declare.tp());
    declare.matrix("ff.up.weight", {wide, narrow}, Init::linear(narrow), cut_along(0, dealt));
    declare.exempt("ff.up.bias", {wide}, Init::linear(narrow), cut_along(0, dealt));
    declare.matrix("ff.down.weight", {narrow, wide}, Init::linear(wide), cut_along(1, dealt));
    declare.exempt("ff.down.bias", {narrow}, Init::linear(wide), on_first(narrow, declare.tp()));
  }

  std::unique_ptr<Layer> bind(const LayerView& view) const override {
    return std::make_unique<FeedForward>(view);
  }

  std::vector<StageCost> stages(const ModelConfig& config) const override {
    const int64_t narrow = config.d_model, wide = kExpansion * narrow;
    return {residual_cost(narrow),
            linear_cost("up", narrow, wide),
            {"gelu", 0, 0, 4.0 * wide, 6.0 * wide},
            linear_cost("down", wide, narrow)};
  }

  /// Kept: the GELU's input and output; working: both gradients.
  LayerMemory memory(const ModelConfig& config, double bytes) const override {
    const double both = 2 * bytes * static_cast<double>(kExpansion * config.d_model);
    return {both, both, both};
  }
};

}  // namespace

const LayerKind& feed_forward_kind() {
  static const FeedForwardKind kind;
  return kind;
}

}  // namespace dm::model
