// S: the differential scan, Diff-S6 (arXiv 2507.06204): two input projections and scans of width E = 2D, with
// one convolution, one gated norm (Mamba-2) or the plain gate (Mamba-1) and one output projection. y =
// out_proj((1 − λ_init) · RMSNorm_subln(n_1 − λ n_2)), n_i the gated scans.

#include <algorithm>

#include "kernels/comm/tensor_axis.h"
#include "kernels/linear/linear.h"
#include "model/layers/difference.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

Branch branch_of(const ModelConfig& config) {
  return {2 * config.d_model, config.head_dim_plain, "head-dim-plain"};
}

/// The difference is taken channel by channel before the output projection: a rank has the same units of
/// both.
Dealt dealt(const ModelConfig& config, int64_t tp) {
  const std::vector<Run> units =
      deal(mixer_kind(config.mixer).units(config, branch_of(config)).count, 1, 0, tp);
  return {units, units};
}
MixerPart part_of(const LayerView& view) { return {dealt(view.config, view.placement.tp), view.placement}; }

/// "in_proj" + ".weight" of branch 1 is stored as "in_proj_1.weight", what both branches share as it is.
std::string stored_name(const BranchParameter& parameter, int branch) {
  return parameter.shared ? parameter.stem + parameter.leaf
                          : parameter.stem + "_" + std::to_string(branch) + parameter.leaf;
}

BranchLookup lookup(const ModelConfig& config, const Scope& scope, int branch) {
  return {scope, [parameters = mixer_kind(config.mixer).parameters(config, branch_of(config), {}), branch](
                     const std::string& stem, const std::string& leaf) {
            for (const BranchParameter& p : parameters)
              if (p.stem == stem && p.leaf == leaf) return stored_name(p, branch);
            return stem + leaf;  // not a parameter of this mixer: the scope says so
          }};
}

class DiffScan final : public Layer {
 public:
  explicit DiffScan(const LayerView& view)
      : inner_(branch_of(view.config).inner),
        part_(part_of(view)),
        difference_(view.config, scan_lambda_form(), view.index, view.parameters.inside("mixer."), part_) {
    const Scope p = view.parameters.inside("mixer.");
    mixer_ = mixer_kind(view.config.mixer)
                 .bind(view.config, branch_of(view.config),
                       {lookup(view.config, p, 1), lookup(view.config, p, 2)}, part_);
    in_proj_ = p.stacked({"in_proj_1.weight", "in_proj_2.weight"}, 0);
    out_proj_ = p.matrix("out_proj.weight");
  }

  at::Tensor forward(const at::Tensor& u, const kernels::Documents& documents) const override {
    const at::Tensor projected = kernels::linear(u, in_proj_);         // [B, L, R]
    return finished(mixer_->gated(projected, documents, sections()));  // [B, L, D]
  }

  at::Tensor step(StepStream& stream, DecodeState& state) const override {
    return finished(mixer_->gated_step(stream.product(in_proj_), state, state.sections));  // [B, D]
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    DecodeState state = mixer_->new_state(batch, activations);
    state.sections = sections();
    return state;
  }

 private:
  std::optional<at::Tensor> sections() const { return difference_.sections(); }
  at::Tensor finished(const at::Tensor& gated) const {
    const auto n = gated.chunk(2, -1);  // n_1 and −λ n_2, [.., E]
    return kernels::linear(difference_.normalised(n[0] + n[1], inner_), out_proj_);
  }

  int64_t inner_;  // E, on all ranks together
  MixerPart part_;
  Difference difference_;
  std::unique_ptr<Mixer> mixer_;  // both branches
  kernels::Weight in_proj_;       // [R, D]
  kernels::Weight out_proj_;      // [D, E]
};

class DiffScanKind final : public LayerKind {
 public:
  char letter() const override { return 'S'; }
  const char* name() const override { return "differential scan"; }
  bool has_difference() const override { return true; }

  void validate(const ModelConfig& config) const override {
    mixer_kind(config.mixer).validate(config, branch_of(config), letter());
  }

  TensorParts tensor_parts(const ModelConfig& config) const override {
    const Units units = mixer_kind(config.mixer).units(config, branch_of(config));
    return {units.count, units.what};
  }

  void declare(const ModelConfig& config, int64_t index, const Declare& declare) const override {
    const Declare mixer = declare.inside("mixer.");
    const Branch branch = branch_of(config);
    const std::vector<Run> units = dealt(config, declare.tp())[0];
    for (const BranchParameter& p : mixer_kind(config.mixer).parameters(config, branch, units))
      for (int i = 1; i <= (p.shared ? 1 : 2); ++i)
        mixer.parameter(stored_name(p, i), p.shape, p.decay, p.init, p.cut);
    scan_lambda_form().declare({index, config.d_model, config.d_state, branch.inner / branch.head_dim, units},
                               mixer);
    const int64_t width = branch.inner / mixer_kind(config.mixer).units(config, branch).count;
    if (config.subln)
      mixer.exempt("subln.weight", {branch.inner}, Init::constant(1), cut_along(0, units, width));
  }

  void declare_carried(const ModelConfig& config, const Declare& declare) const override {
    const std::vector<Run> units = dealt(config, declare.tp())[0];
    for (const char* branch : {"_1", "_2"})
      for (const CarriedTensor& t : mixer_kind(config.mixer).carried(config, branch_of(config), units))
        declare.inside("mixer.").exempt(t.stem + branch, t.shape, Init::constant(0), t.cut);
  }

  std::unique_ptr<Layer> bind(const LayerView& view) const override {
    return std::make_unique<DiffScan>(view);
  }

  PlainDifference plain(const LayerView& view, const at::Tensor& u,
                        const kernels::Documents& documents) const override {
    const Scope p = view.parameters.inside("mixer.");
    const MixerPart both = part_of(view), one{{both.dealt[0]}, view.placement};
    // The products take their halves of the stacked matrix, which is there already.
    const at::Tensor in_proj = p.stacked({"in_proj_1.weight", "in_proj_2.weight"}, 0).value;
    const auto branch = [&](int i) {
      const auto mixer = mixer_kind(view.config.mixer)
                             .bind(view.config, branch_of(view.config), {lookup(view.config, p, i)}, one);
      const int64_t height = p["in_proj_1.weight"].size(0);
      const at::Tensor projected = kernels::linear(u, in_proj.narrow(0, (i - 1) * height, height));
      return mixer->gated(projected, documents, std::nullopt);
    };
    const Difference difference(view.config, scan_lambda_form(), view.index, p, both);
    const at::Tensor lambda = difference.lambda({});
    if (view.placement.tp == 1) {
      const at::Tensor n_1 = branch(1), n_2 = branch(2);
      const at::Tensor y = difference.plain(n_1, n_2, lambda).to(u.scalar_type());
      return {n_1, n_2, lambda, kernels::linear(y, p.matrix("out_proj.weight"))};
    }
    // Each rank has its channels of both branches, and its part of the output's sum.
    const int64_t inner = branch_of(view.config).inner;
    const at::Tensor n_1 = branch(1), n_2 = branch(2);
    const at::Tensor y = difference.plain(n_1, n_2, lambda, inner).to(u.scalar_type());
    const auto all_channels = [&](const at::Tensor& mine) {
      std::vector<int64_t> shape = mine.sizes().vec();
      shape.back() = inner;
      const at::Tensor all = at::zeros(shape, mine.options());
      all.narrow(-1, view.placement.tp_rank * mine.size(-1), mine.size(-1)).copy_(mine);
      return kernels::sum_over_ranks(all, *view.placement.tensor);
    };
    const at::Tensor output = kernels::linear(y, p.matrix("out_proj.weight"));
    return {all_channels(n_1), all_channels(n_2), lambda,
            kernels::sum_over_ranks(output, *view.placement.tensor)};
  }

  std::vector<Exchange> exchanges(const ModelConfig& config, const Placement& placement, const PassSize& size,
                                  bool backward) const override {
    std::vector<Exchange> all =
        mixer_kind(config.mixer)
            .exchanges(config, branch_of(config), {dealt(config, placement.tp), placement}, size, backward);
    if (config.subln && placement.tp > 1) add_sum_over_ranks(all, size.tokens(), backward);
    return all;
  }

  std::vector<StageCost> stages(const ModelConfig& config) const override {
    return mixer_layer_stages(config, branch_of(config), 2, branch_of(config).inner);
  }

  /// Beside the mixer's: its gated output, which is kept always, the sum of both branches and the norm of
  /// that.
  LayerMemory memory(const ModelConfig& config, double bytes) const override {
    LayerMemory memory = mixer_kind(config.mixer).memory(config, branch_of(config), 2, bytes);
    const double more = 4 * bytes * static_cast<double>(branch_of(config).inner);
    memory.kept += more, memory.kept_without_scan += more;
    memory.made_again -=
        std::min(memory.made_again, 2 * bytes * static_cast<double>(branch_of(config).inner));
    return memory;
  }
};

}  // namespace

const LayerKind& diff_scan_kind() {
  static const DiffScanKind kind;
  return kind;
}

}  // namespace dm::model
