// D: two mixers of width E = D and their weighted difference, Diff-Mamba (arXiv 2507.06204).
// y = (1 − λ_init) · RMSNorm_subln(mixer_1(u) − λ mixer_2(u)), both mixers in one pass (mixers/mixer.h).

#include "core/error.h"
#include "kernels/linear/linear.h"
#include "model/layers/difference.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

Branch branch_of(const ModelConfig& config) { return {config.d_model, config.head_dim, "head-dim"}; }

const std::vector<std::string> kOutProjNames = {"mixer_1.out_proj.weight", "mixer_2.out_proj.weight"};

/// Both branches' in_proj, and λ's own projection below them where there is one.
std::vector<std::string> in_proj_names(const ModelConfig& config) {
  std::vector<std::string> names = {"mixer_1.in_proj.weight", "mixer_2.in_proj.weight"};
  if (lambda_form(config.lambda).from_input()) names.emplace_back("lambda_proj.weight");
  return names;
}

class Differential final : public Layer {
 public:
  explicit Differential(const LayerView& view)
      : difference_(view.config, lambda_form(view.config.lambda), view.index, view.parameters) {
    const Scope &p = view.parameters, first = p.inside("mixer_1."), second = p.inside("mixer_2.");
    mixer_ = mixer_kind(view.config.mixer)
                 .bind(view.config, branch_of(view.config), {BranchLookup(first), BranchLookup(second)});
    mixer_rows_ = 2 * p["mixer_1.in_proj.weight"].size(0);
    in_proj_ = p.stacked(in_proj_names(view.config), 0);
    out_proj_ = p.stacked(kOutProjNames, 1);
  }

  at::Tensor forward(const at::Tensor& u, const at::Tensor& seq_idx) const override {
    const auto [branches, lambda] = project(u);                                         // [B, L, R], λ
    return mixer_->output(branches, seq_idx, difference_.sections(lambda), out_proj_);  // [B, L, D]
  }

  at::Tensor step(const at::Tensor& u, DecodeState& state) const override {
    const auto [branches, lambda] = project(u.unsqueeze(1));  // [B, 1, R], λ
    const at::Tensor gated =
        mixer_->gated_step(branches.squeeze(1), state, difference_.sections(lambda));  // [B, 2E]
    return kernels::linear(gated, out_proj_);                                          // [B, D]
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    return mixer_->new_state(batch, activations);
  }
  std::optional<at::Tensor> output_norm() const override { return difference_.norm_weight(); }

 private:
  /// One GEMM for both branches, and for λ where it depends on the input.
  std::pair<at::Tensor, at::Tensor> project(const at::Tensor& u) const {
    const at::Tensor all = kernels::linear(u, in_proj_);
    if (all.size(-1) == mixer_rows_) return {all, difference_.lambda({})};
    const auto [branches, rest] = kernels::split_columns(all, mixer_rows_);
    return {branches, difference_.lambda(rest)};
  }

  Difference difference_;
  std::unique_ptr<Mixer> mixer_;  // both branches
  int64_t mixer_rows_ = 0;
  kernels::Weight in_proj_;   // [R, D], and lambda_proj.weight below it where λ depends on the input
  kernels::Weight out_proj_;  // [D, 2E]
};

class DifferentialKind final : public LayerKind {
 public:
  char letter() const override { return 'D'; }
  const char* name() const override { return "differential"; }
  bool has_difference() const override { return true; }

  void validate(const ModelConfig& config) const override {
    const MixerKind& mixer = mixer_kind(config.mixer);
    DM_REQUIRE(mixer.has_heads() || !lambda_form(config.lambda).by_head(), ExitCode::usage,
               "--lambda {}: {} has no heads to give a weight each; legal with --mixer {}: {}", config.lambda,
               config.mixer, config.mixer, forms_for(mixer));
    mixer.validate(config, branch_of(config), letter());
  }

  TensorParts tensor_parts(const ModelConfig& config) const override {
    const Units units = mixer_kind(config.mixer).units(config, branch_of(config));
    return {2 * units.count, std::string(units.what) + " of both branches"};
  }

  void declare(const ModelConfig& config, int64_t index, const Declare& declare) const override {
    const Branch branch = branch_of(config);
    declare_branch(config, branch, declare.inside("mixer_1."));
    declare_branch(config, branch, declare.inside("mixer_2."));
    lambda_form(config.lambda)
        .declare({index, config.d_model, config.d_state, branch.inner / branch.head_dim}, declare);
    if (config.subln) declare.exempt("subln.weight", {config.d_model}, Init::constant(1));
  }

  std::unique_ptr<Layer> bind(const LayerView& view) const override {
    return std::make_unique<Differential>(view);
  }

  PlainDifference plain(const LayerView& view, const at::Tensor& u,
                        const at::Tensor& seq_idx) const override {
    const LambdaForm& form = lambda_form(view.config.lambda);
    const Branch branch = branch_of(view.config);
    const Difference difference(view.config, form, view.index, view.parameters);
    // The products take their halves of the stacked matrices, which are there already.
    const at::Tensor rows = view.parameters.stacked(in_proj_names(view.config), 0).value;
    const at::Tensor columns = view.parameters.stacked(kOutProjNames, 1).value;
    const int64_t height = view.parameters["mixer_1.in_proj.weight"].size(0);
    const at::Tensor lambda = difference.lambda(
        form.from_input() ? kernels::linear(u, rows.narrow(0, 2 * height, rows.size(0) - 2 * height))
                          : at::Tensor());
    const auto mixer = [&](int64_t index, const std::optional<at::Tensor>& scale) {
      const Scope p = view.parameters.inside(index == 0 ? "mixer_1." : "mixer_2.");
      const auto mixer = mixer_kind(view.config.mixer).bind(view.config, branch, {BranchLookup(p)});
      const at::Tensor projected = kernels::linear(u, rows.narrow(0, index * height, height));
      return kernels::linear(mixer->gated(projected, seq_idx, scale),
                             columns.narrow(1, index * branch.inner, branch.inner));
    };
    const at::Tensor y_1 = mixer(0, std::nullopt), y_2 = mixer(1, std::nullopt);
    const at::Tensor output = form.by_head()
                                  ? difference.plain(y_1, mixer(1, lambda), at::ones({1}, u.options()))
                                  : difference.plain(y_1, y_2, lambda);
    return {y_1, y_2, lambda, output.to(u.scalar_type())};
  }

  std::vector<StageCost> stages(const ModelConfig& config) const override {
    const Branch branch = branch_of(config);
    const LambdaForm& form = lambda_form(config.lambda);
    const int64_t lambda_rows = !form.from_input() ? 0 : form.by_head() ? branch.inner / branch.head_dim : 1;
    return mixer_layer_stages(config, branch, 2, 2 * branch.inner, lambda_rows);
  }

 private:
  static std::string forms_for(const MixerKind& mixer) {
    std::string text;
    for (const std::string& name : lambda_form_names())
      if (mixer.has_heads() || !lambda_form(name).by_head()) text += (text.empty() ? "" : ", ") + name;
    return text;
  }
};

}  // namespace

const LayerKind& differential_kind() {
  static const DifferentialKind kind;
  return kind;
}

}  // namespace dm::model
