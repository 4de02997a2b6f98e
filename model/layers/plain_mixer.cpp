// M: one mixer of width E = 2D. y = out_proj(gated(in_proj u)).

#include "kernels/linear/linear.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

Branch branch_of(const ModelConfig& config) {
  return {2 * config.d_model, config.head_dim_plain, "head-dim-plain"};
}

Dealt dealt(const ModelConfig& config, int64_t tp) {
  return {deal(mixer_kind(config.mixer).units(config, branch_of(config)).count, 1, 0, tp)};
}

class PlainMixer final : public Layer {
 public:
  explicit PlainMixer(const LayerView& view) {
    const Scope p = view.parameters.inside("mixer.");
    mixer_ = mixer_kind(view.config.mixer)
                 .bind(view.config, branch_of(view.config), {BranchLookup(p)},
                       {dealt(view.config, view.placement.tp), view.placement});
    if (view.gradients_only) mixer_->want_gradients_only();
    in_proj_ = p.matrix("in_proj.weight");
    out_proj_ = p.matrix("out_proj.weight");
  }

  at::Tensor forward(const at::Tensor& u, const kernels::Documents& documents) const override {
    const at::Tensor projected = kernels::linear(u, in_proj_);             // [B, L, R]
    return mixer_->output(projected, documents, std::nullopt, out_proj_);  // [B, L, D]
  }

  at::Tensor step(StepStream& stream, DecodeState& state) const override {
    const at::Tensor projected = stream.queued_product(in_proj_);                           // [B, R]
    return mixer_->output_step(projected, state, std::nullopt, out_proj_, stream.chain());  // [B, D]
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    return mixer_->new_state(batch, activations);
  }

 private:
  std::unique_ptr<Mixer> mixer_;
  kernels::Weight in_proj_;   // [R, D]
  kernels::Weight out_proj_;  // [D, E]
};

class PlainMixerKind final : public LayerKind {
 public:
  char letter() const override { return 'M'; }
  const char* name() const override { return "plain mixer"; }

  void validate(const ModelConfig& config) const override {
    mixer_kind(config.mixer).validate(config, branch_of(config), letter());
  }

  TensorParts tensor_parts(const ModelConfig& config) const override {
    const Units units = mixer_kind(config.mixer).units(config, branch_of(config));
    return {units.count, units.what};
  }

  void declare(const ModelConfig& config, int64_t, const Declare& declare) const override {
    declare_branch(config, branch_of(config), dealt(config, declare.tp())[0], declare.inside("mixer."));
  }

  void declare_carried(const ModelConfig& config, const Declare& declare) const override {
    const std::vector<Run> units = dealt(config, declare.tp())[0];
    for (const CarriedTensor& t : mixer_kind(config.mixer).carried(config, branch_of(config), units))
      declare.inside("mixer.").exempt(t.stem, t.shape, Init::constant(0), t.cut);
  }

  std::unique_ptr<Layer> bind(const LayerView& view) const override {
    return std::make_unique<PlainMixer>(view);
  }

  std::vector<Exchange> exchanges(const ModelConfig& config, const Placement& placement, const PassSize& size,
                                  bool backward) const override {
    return mixer_kind(config.mixer)
        .exchanges(config, branch_of(config), {dealt(config, placement.tp), placement}, size, backward);
  }

  std::vector<StageCost> stages(const ModelConfig& config) const override {
    return mixer_layer_stages(config, branch_of(config), 1, branch_of(config).inner);
  }

  LayerMemory memory(const ModelConfig& config, double bytes) const override {
    return mixer_kind(config.mixer).memory(config, branch_of(config), 1, bytes);
  }
};

}  // namespace

const LayerKind& plain_mixer_kind() {
  static const PlainMixerKind kind;
  return kind;
}

}  // namespace dm::model
