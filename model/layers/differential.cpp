// D: two mixers of width E = D and their weighted difference, Diff-Mamba (arXiv 2507.06204).
// y = (1 − λ_init) · RMSNorm_subln(mixer_1(u) − λ mixer_2(u)), both mixers in one pass (mixers/mixer.h).

#include "core/error.h"
#include "kernels/comm/tensor_axis.h"
#include "kernels/linear/linear.h"
#include "model/layers/difference.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

Branch branch_of(const ModelConfig& config) { return {config.d_model, config.head_dim, "head-dim"}; }

/// Both branches' units stand one after the other and are cut in tp equal parts: two ranks have a branch
/// each.
Dealt dealt(const ModelConfig& config, int64_t tp) {
  const int64_t units = mixer_kind(config.mixer).units(config, branch_of(config)).count;
  return {deal(units, 2, 0, tp), deal(units, 2, 1, tp)};
}
MixerPart part_of(const LayerView& view) { return {dealt(view.config, view.placement.tp), view.placement}; }

const char* mixer_name(int64_t branch) { return branch == 0 ? "mixer_1." : "mixer_2."; }

/// The in_proj of this rank's branches, and λ's own projection below them where there is one.
std::vector<std::string> in_proj_names(const ModelConfig& config, const MixerPart& part) {
  std::vector<std::string> names;
  for (const int64_t b : part.branches()) names.push_back(mixer_name(b) + std::string("in_proj.weight"));
  if (lambda_form(config.lambda).from_input() && !part.units(1).empty())
    names.emplace_back("lambda_proj.weight");
  return names;
}

std::vector<std::string> out_proj_names(const MixerPart& part) {
  std::vector<std::string> names;
  for (const int64_t b : part.branches()) names.push_back(mixer_name(b) + std::string("out_proj.weight"));
  return names;
}

class Differential final : public Layer {
 public:
  explicit Differential(const LayerView& view)
      : part_(part_of(view)),
        difference_(view.config, lambda_form(view.config.lambda), view.index, view.parameters, part_) {
    const Scope& p = view.parameters;
    std::vector<BranchLookup> lookups;
    for (const int64_t b : part_.branches()) {
      lookups.emplace_back(p.inside(mixer_name(b)));
      mixer_rows_ += lookups.back()("in_proj", ".weight").size(0);
    }
    mixer_ = mixer_kind(view.config.mixer).bind(view.config, branch_of(view.config), lookups, part_);
    if (view.gradients_only) mixer_->want_gradients_only();
    in_proj_ = p.stacked(in_proj_names(view.config, part_), 0);
    out_proj_ = p.stacked(out_proj_names(part_), 1);
  }

  at::Tensor forward(const at::Tensor& u, const kernels::Documents& documents) const override {
    const auto [branches, scale] = project(u);                     // [B, L, R], 1 and −λ
    return mixer_->output(branches, documents, scale, out_proj_);  // [B, L, D]
  }

  /// For plain() of a layer on several tensor ranks, where no rank can run one branch after the other: both
  /// in one pass, unscaled, and the sums over the ranks.
  PlainDifference merged(const at::Tensor& u, const kernels::Documents& documents, int64_t units) const {
    const at::Tensor all = kernels::linear(u, in_proj_);
    const at::Tensor gated = mixer_->gated(all.narrow(-1, 0, mixer_rows_), documents, std::nullopt);
    const std::vector<int64_t> branches = part_.branches();
    const auto n = gated.chunk(static_cast<int64_t>(branches.size()), -1);
    const auto w = out_proj_.value.chunk(static_cast<int64_t>(branches.size()), 1);
    at::Tensor sums = at::zeros({3, u.size(0), u.size(1), u.size(2)}, u.options());  // y_1, y_2, λ y_2
    at::Tensor lambda = at::zeros({1}, u.options());
    for (size_t i = 0; i < branches.size(); ++i) {
      sums[branches[i]] = kernels::linear(n[i], w[i]);
      if (branches[i] == 0) continue;
      const int64_t more = all.size(-1) - mixer_rows_;
      const at::Tensor mine = difference_.lambda(more > 0 ? all.narrow(-1, mixer_rows_, more) : at::Tensor());
      const at::Tensor sections = n[i].unflatten(-1, {mine.size(-1), -1});
      sums[2] = kernels::linear((sections * mine.unsqueeze(-1)).flatten(-2).to(u.scalar_type()), w[i]);
      lambda += mine.mean() * (static_cast<double>(part_.units(1).count()) / static_cast<double>(units));
    }
    sums = kernels::sum_over_ranks(sums, *part_.placement.tensor);
    return {sums[0], sums[1], kernels::sum_over_ranks(lambda, *part_.placement.tensor),
            difference_.plain(sums[0], sums[2], at::ones({1}, u.options())).to(u.scalar_type())};
  }

  at::Tensor step(StepStream& stream, DecodeState& state) const override {
    if (in_proj_.value.size(0) == mixer_rows_)
      return mixer_->output_step(stream.queued_product(in_proj_), state, state.sections, out_proj_,
                                 stream.chain());                        // [B, D]
    const at::Tensor all = stream.product(in_proj_).unsqueeze(1);        // [B, 1, R]
    const auto [branches, scale] = difference_.split(all, mixer_rows_);  // and 1 and −λ
    return mixer_->output_step(branches.squeeze(1), state, scale, out_proj_, stream.chain());  // [B, D]
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    DecodeState state = mixer_->new_state(batch, activations);
    if (in_proj_.value.size(0) == mixer_rows_) state.sections = difference_.sections();
    return state;
  }
  std::optional<at::Tensor> output_norm() const override { return difference_.norm_weight(); }

 private:
  /// One GEMM for both branches, and for λ where it depends on the input.
  std::pair<at::Tensor, std::optional<at::Tensor>> project(const at::Tensor& u) const {
    const at::Tensor all = kernels::linear(u, in_proj_);
    if (all.size(-1) == mixer_rows_) return {all, difference_.sections()};
    const auto [branches, scale] = difference_.split(all, mixer_rows_);
    return {branches, scale};
  }

  MixerPart part_;
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
    const Dealt units = dealt(config, declare.tp());
    for (const int64_t b : {0, 1}) declare_branch(config, branch, units[b], declare.inside(mixer_name(b)));
    lambda_form(config.lambda)
        .declare({index, config.d_model, config.d_state, branch.inner / branch.head_dim, units[1]},
                 declare.where(units[1]));
    if (config.subln) declare.exempt("subln.weight", {config.d_model}, Init::constant(1));
  }

  void declare_carried(const ModelConfig& config, const Declare& declare) const override {
    const Branch branch = branch_of(config);
    const Dealt units = dealt(config, declare.tp());
    for (const int64_t b : {0, 1})
      for (const CarriedTensor& t : mixer_kind(config.mixer).carried(config, branch, units[b]))
        declare.inside(mixer_name(b)).exempt(t.stem, t.shape, Init::constant(0), t.cut);
  }

  std::unique_ptr<Layer> bind(const LayerView& view) const override {
    return std::make_unique<Differential>(view);
  }

  PlainDifference plain(const LayerView& view, const at::Tensor& u,
                        const kernels::Documents& documents) const override {
    const LambdaForm& form = lambda_form(view.config.lambda);
    const Branch branch = branch_of(view.config);
    const MixerPart part = part_of(view);
    const int64_t units = mixer_kind(view.config.mixer).units(view.config, branch).count;
    if (view.placement.tp > 1) return Differential(view).merged(u, documents, units);
    const Difference difference(view.config, form, view.index, view.parameters, part);
    // The products take their halves of the stacked matrices, which are there already.
    const at::Tensor rows = view.parameters.stacked(in_proj_names(view.config, part), 0).value;
    const at::Tensor columns = view.parameters.stacked(out_proj_names(part), 1).value;
    const int64_t height = view.parameters["mixer_1.in_proj.weight"].size(0);
    const at::Tensor lambda = difference.lambda(
        form.from_input() ? kernels::linear(u, rows.narrow(0, 2 * height, rows.size(0) - 2 * height))
                          : at::Tensor());
    const auto mixer = [&](int64_t index, const std::optional<at::Tensor>& scale) {
      const Scope p = view.parameters.inside(mixer_name(index));
      const auto mixer = mixer_kind(view.config.mixer)
                             .bind(view.config, branch, {BranchLookup(p)}, {{{{0, units}}}, view.placement});
      const at::Tensor projected = kernels::linear(u, rows.narrow(0, index * height, height));
      return kernels::linear(mixer->gated(projected, documents, scale),
                             columns.narrow(1, index * branch.inner, branch.inner));
    };
    const at::Tensor y_1 = mixer(0, std::nullopt), y_2 = mixer(1, std::nullopt);
    const at::Tensor output = form.by_head()
                                  ? difference.plain(y_1, mixer(1, lambda), at::ones({1}, u.options()))
                                  : difference.plain(y_1, y_2, lambda);
    return {y_1, y_2, lambda, output.to(u.scalar_type())};
  }

  std::vector<Exchange> exchanges(const ModelConfig& config, const Placement& placement, const PassSize& size,
                                  bool backward) const override {
    return mixer_kind(config.mixer)
        .exchanges(config, branch_of(config), {dealt(config, placement.tp), placement}, size, backward);
  }

  std::vector<StageCost> stages(const ModelConfig& config) const override {
    const Branch branch = branch_of(config);
    return mixer_layer_stages(config, branch, 2, 2 * branch.inner, lambda_rows(config));
  }

  LayerMemory memory(const ModelConfig& config, double bytes) const override {
    LayerMemory memory = mixer_kind(config.mixer).memory(config, branch_of(config), 2, bytes);
    // λ's columns behind the branches', the factors of the sections, and their gradient.
    const auto lambdas = static_cast<double>(lambda_rows(config));
    memory.kept += lambdas * (bytes + 8), memory.kept_without_scan += lambdas * (bytes + 8);
    memory.working += lambdas * (bytes + 8);
    return memory;
  }

 private:
  /// λs of a token that in_proj makes.
  static int64_t lambda_rows(const ModelConfig& config) {
    const LambdaForm& form = lambda_form(config.lambda);
    const Branch branch = branch_of(config);
    return !form.from_input() ? 0 : form.by_head() ? branch.inner / branch.head_dim : 1;
  }

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
