// Mamba-1, the S6 mixer (arXiv 2312.00752): docs/model.md, "Mixers".
//
// Two branches share the GEMM of in_proj, the convolution and the gate; their scans read different B and C.
// On a GPU all between the projections is one operation (kernels/selective_mixer/selective_mixer.h); here it
// is composed, a scan a branch, for CPUs and where other ranks hold channels of the same branch.

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "kernels/comm/along_rows.h"
#include "kernels/comm/tensor_axis.h"
#include "kernels/conv/causal_conv.h"
#include "kernels/linear/linear.h"
#include "kernels/selective_mixer/selective_mixer.h"
#include "kernels/selective_scan/selective_scan.h"
#include "kernels/vectors/vectors.h"
#include "model/mixers/mixer.h"

namespace dm::model {
namespace {

int64_t step_rank(const ModelConfig& config) {
  return config.dt_rank > 0 ? config.dt_rank : (config.d_model + 15) / 16;
}

class Mamba1 final : public Mixer {
 public:
  Mamba1(const ModelConfig& config, const Branch& branch, const std::vector<BranchLookup>& branches,
         const MixerPart& part)
      : config_(config),
        part_(part),
        inner_(part.units(part.branches().front()).count()),
        rank_(step_rank(config)),
        partial_(part.splits_branches(branch.inner)) {
    using kernels::VectorMap;
    const auto all = [&](const char* stem, const char* leaf, VectorMap map = VectorMap::same) {
      kernels::VectorParts parts;
      for (const BranchLookup& lookup : branches) parts.push_back({lookup(stem, leaf), map});
      return parts;
    };
    const std::vector<at::Tensor> vectors =
        kernels::gather_vectors({all("conv1d", ".weight"), all("conv1d", ".bias"), all("dt_proj", ".bias"),
                                 all("A_log", "", VectorMap::negative_exp), all("D", "")});
    weights_.conv_weight = vectors[0].view({-1, config.d_conv}), weights_.conv_bias = vectors[1];
    weights_.dt_bias = vectors[2], weights_.a = vectors[3].view({-1, config.d_state}),
    weights_.d = vectors[4];
    for (const BranchLookup& lookup : branches) {
      weights_.x_proj.push_back(lookup.matrix("x_proj", ".weight"));
      weights_.dt_proj.push_back(lookup.matrix("dt_proj", ".weight"));
      const auto of_branch = [&](const at::Tensor& vector) {
        return vector.narrow(0, static_cast<int64_t>(scans_.size()) * inner_, inner_);
      };
      scans_.push_back({weights_.x_proj.back(), weights_.dt_proj.back(), of_branch(weights_.dt_bias),
                        of_branch(weights_.a), of_branch(weights_.d)});
    }
    form_ = {
        .branches = static_cast<int64_t>(branches.size()),
        .inner = inner_,
        .step_rank = rank_,
        .d_state = config.d_state,
        .dt_min = std::max(0.0, config.dt_limit_min),
        .dt_max = config.dt_limit_max > 0 ? config.dt_limit_max : std::numeric_limits<double>::infinity()};
  }

  at::Tensor gated(const at::Tensor& projected, const kernels::Documents& documents,
                   const std::optional<at::Tensor>& scale) const override {
    kernels::Carried* const carried = documents.carried;
    const bool begin = carried && documents.rows_begin_here(), end = carried && documents.rows_end_here();
    if (!partial_ && kernels::selective_mixer_fuses(projected, form_)) {
      kernels::SelectiveMixerState entering, leaving;
      if (begin) entering = {carried->before.window, at::cat(carried->before.states, 1)};
      const at::Tensor out =
          kernels::selective_mixer(projected, weights_, scale, documents, form_,
                                   {begin ? &entering : nullptr, end ? &leaving : nullptr});
      if (leaving.state.defined())
        carried->after = {documents.of_the_last(leaving.window), leaving.state.split(inner_, 1)};
      return out;
    }
    const auto [x_in, z] = split(projected);
    std::optional<at::Tensor> window;
    if (begin) window = carried->before.window;
    const auto x = kernels::conv_along_rows(x_in, weights_.conv_weight, weights_.conv_bias, documents, window)
                       .split(inner_, -1);                 // [B, L, E]
    const std::vector<at::Tensor> steps = step_inputs(x);  // [B, L, R + 2N]
    std::vector<kernels::SelectiveScanInput> inputs;
    for (size_t i = 0; i < scans_.size(); ++i) {
      const Scan& s = scans_[i];
      const Scanned in = scanned(s, steps[i]);
      inputs.push_back({x[i], in.dt, s.a, in.b, in.c, s.d});
      if (begin) inputs.back().initial_state = carried->before.states[i];
    }
    std::vector<at::Tensor> y;
    std::vector<at::Tensor> states;
    for (const kernels::ScanOutput& scan :
         kernels::selective_scans_along_rows(std::move(inputs), documents)) {
      y.push_back(scan.y);
      states.push_back(scan.final_state.detach());
    }
    if (end) carried->after = {documents.of_the_last(last_inputs(x_in, window)), std::move(states)};
    return gate(y, z, scale);  // [B, L, branches * E]
  }

  at::Tensor gated_step(const at::Tensor& projected, DecodeState& state,
                        const std::optional<at::Tensor>& scale) const override {
    const auto [x_in, z] = split(projected);
    const auto x = kernels::causal_conv_step(x_in, weights_.conv_weight, weights_.conv_bias, state.window)
                       .split(inner_, -1);                 // [B, E]
    const std::vector<at::Tensor> steps = step_inputs(x);  // [B, R + 2N]
    std::vector<at::Tensor> y;
    for (size_t i = 0; i < scans_.size(); ++i) {
      const Scan& s = scans_[i];
      const Scanned in = scanned(s, steps[i]);
      y.push_back(kernels::selective_step(x[i], in.dt, s.a, in.b, in.c, s.d, state.states[i]).unsqueeze(1));
    }
    return gate(y, z.unsqueeze(1), scale).squeeze(1);  // [B, branches * E]
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    const at::Tensor& bias = weights_.conv_bias;
    DecodeState state{
        {at::zeros({batch, config_.d_conv - 1, bias.size(0)}, bias.options().dtype(activations)), {}}, {}};
    for (const Scan& s : scans_)
      state.states.push_back(at::zeros({batch, inner_, s.a.size(1)}, s.a.options()));
    return state;
  }

 private:
  /// The convolution's last W - 1 inputs, of which `window` has those before x where that is too short.
  at::Tensor last_inputs(const at::Tensor& x, const std::optional<at::Tensor>& window) const {
    const int64_t count = config_.d_conv - 1, length = x.size(1);
    DM_CHECK(window || length >= count, "{} tokens of a row that are its last {} convolved ones", length,
             count);
    const at::Tensor all = length >= count ? x.detach() : at::cat({*window, x.detach()}, 1);
    return all.narrow(1, all.size(1) - count, count);
  }

  /// What each branch's scan has of its own.
  struct Scan {
    kernels::Weight x_proj;     // [R + 2N, E]
    kernels::Weight dt_weight;  // [E, R]
    at::Tensor dt_bias;         // [E]
    at::Tensor a;               // [E, N], < 0
    at::Tensor d;               // [E]
  };
  struct Scanned {
    at::Tensor dt;    // [.., E]
    at::Tensor b, c;  // [.., N]
  };
  /// δ | B | C of each branch from its convolved channels. A branch that several ranks have channels of is a
  /// sum over the ranks.
  std::vector<at::Tensor> step_inputs(const std::vector<at::Tensor>& x) const {
    std::vector<at::Tensor> mine;
    for (size_t i = 0; i < scans_.size(); ++i) mine.push_back(kernels::linear(x[i], scans_[i].x_proj));
    if (!partial_) return mine;
    std::vector<at::Tensor> all(part_.dealt.size(), at::zeros_like(mine[0]));
    const std::vector<int64_t> branches = part_.branches();
    for (size_t i = 0; i < mine.size(); ++i) all[static_cast<size_t>(branches[i])] = mine[i];
    const at::Tensor sums =
        kernels::sum_over_ranks(at::stack(all), *part_.placement.tensor);  // [branches, .., R + 2N]
    for (size_t i = 0; i < mine.size(); ++i) mine[i] = sums[branches[i]];
    return mine;
  }

  Scanned scanned(const Scan& s, const at::Tensor& steps) const {
    const auto rbc = steps.split_with_sizes({rank_, config_.d_state, config_.d_state}, -1);
    return {step_size(config_, kernels::linear(rbc[0], s.dt_weight, s.dt_bias)), rbc[1], rbc[2]};
  }

  /// x and z of all branches, [.., branches * E] each, from columns x_1 | z_1 | x_2 | z_2.
  std::pair<at::Tensor, at::Tensor> split(const at::Tensor& projected) const {
    const auto xz = projected.unflatten(-1, {-1, 2 * inner_}).split(inner_, -1);
    return {xz[0].flatten(-2), xz[1].flatten(-2)};
  }

  static at::Tensor gate(const std::vector<at::Tensor>& y, const at::Tensor& z,
                         const std::optional<at::Tensor>& scale) {
    const at::Tensor gated = (y.size() == 1 ? y[0] : at::cat(y, -1)) * at::silu(z);
    if (!scale) return gated;
    const at::Tensor scaled = (gated.unflatten(-1, {scale->size(-1), -1}) * scale->unsqueeze(-1)).flatten(-2);
    return scaled.to(gated.scalar_type());  // on a GPU the factors are float32
  }

  const ModelConfig& config_;
  MixerPart part_;
  int64_t inner_, rank_;  // E of one branch (this rank's share of it), R
  bool partial_;          // several ranks have channels of one branch
  kernels::SelectiveMixerForm form_{};
  kernels::SelectiveMixerWeights weights_;
  std::vector<Scan> scans_;
};

class Mamba1Kind final : public MixerKind {
 public:
  const char* name() const override { return "mamba1"; }
  bool has_heads() const override { return false; }
  void validate(const ModelConfig&, const Branch&, char) const override {}  // every width fits

  Units units(const ModelConfig&, const Branch& branch) const override { return {branch.inner, "channels"}; }

  std::vector<BranchParameter> parameters(const ModelConfig& config, const Branch& branch,
                                          const std::vector<Run>& dealt) const override {
    const int64_t d = config.d_model, e = branch.inner, n = config.d_state, r = step_rank(config);
    const Init conv = Init::linear(config.d_conv);
    const Cut rows = cut_along(0, dealt), columns = cut_along(1, dealt);
    Cut xz;
    append(xz, dealt, 1, 0);
    append(xz, dealt, 1, e);
    return {{"in_proj", ".weight", {2 * e, d}, true, Init::linear(d), false, xz},
            {"conv1d", ".weight", {e, 1, config.d_conv}, true, conv, true, rows},
            {"conv1d", ".bias", {e}, false, conv, true, rows},
            {"x_proj", ".weight", {r + 2 * n, e}, true, Init::linear(e), false, columns},
            {"dt_proj", ".weight", {e, r}, true, Init::linear(r), false, rows},
            {"dt_proj", ".bias", {e}, false, Init::step_bias(), false, rows},
            {"A_log", "", {e, n}, false, Init::log_column(n), false, rows},
            {"D", "", {e}, false, Init::constant(1), false, rows},
            {"out_proj", ".weight", {d, e}, true, out_proj_init(config, e), true, columns}};
  }

  std::vector<CarriedTensor> carried(const ModelConfig& config, const Branch& branch,
                                     const std::vector<Run>& dealt) const override {
    const Cut channels = cut_along(0, dealt);
    return window_and_state(config, channels, branch.inner, {branch.inner, config.d_state}, channels);
  }

  std::unique_ptr<Mixer> bind(const ModelConfig& config, const Branch& branch,
                              const std::vector<BranchLookup>& branches,
                              const MixerPart& part) const override {
    return std::make_unique<Mamba1>(config, branch, branches, part);
  }

  std::vector<Exchange> exchanges(const ModelConfig& config, const Branch& branch, const MixerPart& part,
                                  const PassSize& size, bool backward) const override {
    std::vector<Exchange> all;
    const std::vector<int64_t> branches = part.branches();
    const auto count = static_cast<int64_t>(branches.size());
    const int64_t channels = part.units(branches.front()).count();  // of each
    if (part.placement.cp > 1) {
      add_tokens_before(all, part.placement, size.rows * (config.d_conv - 1) * count * channels, backward);
      add_state_before(all, part.placement, size.rows * count * channels * 2 * config.d_state,
                       Exchange::Element::weight, backward);
    }
    if (part.splits_branches(branch.inner))
      add_sum_over_ranks(
          all,
          size.tokens() * static_cast<int64_t>(part.dealt.size()) * (step_rank(config) + 2 * config.d_state),
          backward, Exchange::Element::activation);
    return all;
  }

  std::vector<StageCost> stages(const ModelConfig& config, const Branch& branch,
                                int64_t branches) const override {
    const int64_t r = step_rank(config), n = config.d_state;
    const double e = static_cast<double>(branches * branch.inner), en = e * static_cast<double>(n),
                 taps = 2.0 * static_cast<double>(config.d_conv);
    StageCost projections = linear_cost("x_proj+dt_proj", branch.inner, r + 2 * n);
    projections += linear_cost("", r, branch.inner);
    projections *= static_cast<double>(branches);
    // Forward, a state and step: Δ·A, its exponential, Δx·B, decay·S, their sum, C·S, the sum over n.
    // Backward: the state again (5), then of dS: dS += C·dy (2), dC (2), d(Δx) (2), dB (2), decay's gradient
    // (2), dA and dΔ (4), decay·dS (1).
    return {{"conv", taps * e, 3 * taps * e, 4 * e, 6 * e},
            projections,
            {"selective_scan", 7 * en + 2 * e, 20 * en + 4 * e, 8 * e, 16 * e}};
  }

  // Kept, E channels each: projected (2), the convolution's output, Δ before softplus, y, and out, which
  // out_proj needs; of the scan its states every 32 tokens. Working: the gradients of them all, and what each
  // 64 channels of the scan leave of those of B and C.
  LayerMemory memory(const ModelConfig& config, const Branch& branch, int64_t branches,
                     double bytes) const override {
    const double e = static_cast<double>(branches * branch.inner), n = static_cast<double>(config.d_state);
    const double low =
        static_cast<double>(branches) * bytes * (static_cast<double>(step_rank(config)) + 2 * n);
    const double kept = 6 * bytes * e + low + 4 * e * n / 32;
    const double shares = n <= 16 ? e / 64 : e / 8;  // of dB and dC: thread blocks of the backward pass
    return {kept, kept, 6 * bytes * e + low + 8 * n * shares};
  }
};

}  // namespace

const MixerKind& mamba1_kind() {
  static const Mamba1Kind kind;
  return kind;
}

}  // namespace dm::model
