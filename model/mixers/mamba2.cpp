// Mamba-2, the SSD mixer (arXiv 2405.21060): docs/model.md, "Mixers".

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "kernels/ssd_mixer/ssd_mixer.h"
#include "model/mixers/mixer.h"

namespace dm::model {
namespace {

/// Widths of `count` branches side by side; E, H and G are those of all of them together.
struct Widths {
  int64_t inner;                                                  // E
  int64_t heads;                                                  // H
  int64_t head_dim;                                               // P
  int64_t groups;                                                 // G
  int64_t d_state;                                                // N
  int64_t d_conv;                                                 // W
  int64_t group_width() const { return groups * d_state; }        // GN
  int64_t channels() const { return inner + 2 * group_width(); }  // C, convolved: x | B | C
  int64_t rows() const { return inner + channels() + heads; }     // R, of in_proj: z | x | B | C | dt

  Widths(const ModelConfig& config, const Branch& branch, int64_t count)
      : inner(count * branch.inner),
        heads(count * (branch.inner / branch.head_dim)),
        head_dim(branch.head_dim),
        groups(count * config.n_groups),
        d_state(config.d_state),
        d_conv(config.d_conv) {}
};

class Mamba2 final : public Mixer {
 public:
  Mamba2(const ModelConfig& config, const Branch& branch, const std::vector<BranchLookup>& branches) {
    const Widths one(config, branch, 1);
    const auto count = static_cast<int64_t>(branches.size());
    const auto all = [&](const char* stem, const char* leaf) {
      std::vector<at::Tensor> tensors;
      for (const BranchLookup& lookup : branches) tensors.push_back(lookup(stem, leaf));
      return stack(tensors, 0);
    };
    weights_ = {.conv_weight = all("conv1d", ".weight").squeeze(1),
                .conv_bias = all("conv1d", ".bias"),
                .dt_bias = all("dt_bias", ""),
                .a = -all("A_log", "").exp(),
                .d = all("D", ""),
                .norm = all("norm", ".weight")};
    form_ = {
        .branches = count,
        .inner = one.inner,
        .heads = one.heads,
        .groups = one.groups,
        .d_state = one.d_state,
        .spans = config.norm_group == "group" ? count * one.groups : count,
        .eps = config.norm_eps,
        .dt_min = std::max(0.0, config.dt_limit_min),
        .dt_max = config.dt_limit_max > 0 ? config.dt_limit_max : std::numeric_limits<double>::infinity(),
        .chunk = config.chunk_size,
        .recompute_scan = config.recompute == "scan"};
  }

  at::Tensor gated(const at::Tensor& projected, const at::Tensor& seq_idx,
                   const std::optional<at::Tensor>& scale) const override {
    return kernels::ssd_mixer(projected, weights_, scale, seq_idx, form_);
  }

  at::Tensor output(const at::Tensor& projected, const at::Tensor& seq_idx,
                    const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj) const override {
    return kernels::ssd_mixer(projected, weights_, scale, seq_idx, form_, out_proj);
  }

  at::Tensor gated_step(const at::Tensor& projected, DecodeState& state,
                        const std::optional<at::Tensor>& scale) const override {
    kernels::SsdMixerState carried{state.window, state.states[0]};
    return kernels::ssd_mixer_step(projected, weights_, scale, carried, form_);
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    const at::TensorOptions options = weights_.conv_weight.options();
    const int64_t channels = weights_.conv_weight.size(0), window = weights_.conv_weight.size(1) - 1;
    const int64_t heads = form_.branches * form_.heads, head_dim = form_.inner / form_.heads;
    return {at::zeros({batch, window, channels}, options.dtype(activations)),
            {at::zeros({batch, heads, head_dim, form_.d_state}, options)}};
  }

 private:
  kernels::SsdMixerForm form_{};
  kernels::SsdMixerWeights weights_;
};

class Mamba2Kind final : public MixerKind {
 public:
  const char* name() const override { return "mamba2"; }
  bool has_heads() const override { return true; }

  void validate(const ModelConfig& config, const Branch& branch, char letter) const override {
    DM_REQUIRE(branch.inner % branch.head_dim == 0, ExitCode::usage,
               "--{} {}: heads of {} channels do not fill the {} channels of a branch of layer {}; legal: "
               "the divisors of {}",
               branch.head_dim_option, branch.head_dim, branch.head_dim, branch.inner, letter, branch.inner);
    const int64_t heads = branch.inner / branch.head_dim;
    DM_REQUIRE(heads % config.n_groups == 0, ExitCode::usage,
               "--n-groups {}: the {} heads of a branch of layer {} do not divide into so many groups; "
               "legal: the divisors of {}",
               config.n_groups, heads, letter, heads);
  }

  Units units(const ModelConfig&, const Branch& branch) const override {
    return {branch.inner / branch.head_dim, "heads"};
  }

  std::vector<BranchParameter> parameters(const ModelConfig& config, const Branch& branch) const override {
    const Widths w(config, branch, 1);
    const Init conv = Init::linear(w.d_conv);
    return {{"in_proj", ".weight", {w.rows(), config.d_model}, true, Init::linear(config.d_model), false},
            {"conv1d", ".weight", {w.channels(), 1, w.d_conv}, true, conv, true},
            {"conv1d", ".bias", {w.channels()}, false, conv, true},
            {"dt_bias", "", {w.heads}, false, Init::step_bias(), false},
            {"A_log", "", {w.heads}, false, Init::log_uniform(1, 16), false},
            {"D", "", {w.heads}, false, Init::constant(1), false},
            {"norm", ".weight", {w.inner}, false, Init::constant(1), true},
            {"out_proj", ".weight", {config.d_model, w.inner}, true, out_proj_init(config, w.inner), true}};
  }

  std::unique_ptr<Mixer> bind(const ModelConfig& config, const Branch& branch,
                              const std::vector<BranchLookup>& branches) const override {
    return std::make_unique<Mamba2>(config, branch, branches);
  }

  std::vector<StageCost> stages(const ModelConfig& config, const Branch& branch,
                                int64_t branches) const override {
    const Widths w(config, branch, branches);
    const double e = w.inner, gn = w.group_width(), c = w.channels(), h = w.heads, n = w.d_state,
                 q = config.chunk_size;
    // Tiles of 64 x 64 above the diagonal of a chunk are skipped: of t x t tiles, t (t + 1) / 2 are computed.
    const double tiles = std::max(1.0, q / 64), causal = (tiles + 1) / (2 * tiles);
    const double taps = 2.0 * w.d_conv;
    return {{"conv", taps * c, 3 * taps * c, 4 * c + 10 * h, 6 * c},
            {"ssd", causal * 2 * q * (gn + e) + 4 * n * e, causal * q * (6 * gn + 4 * e) + 8 * n * e,
             2 * c + 2 * e + 2 * n * e / q, 4 * c + 2 * e + 2 * n * e / q},
            {"gated_norm", 0, 0, 6 * e, 10 * e}};
  }
};

}  // namespace

const MixerKind& mamba2_kind() {
  static const Mamba2Kind kind;
  return kind;
}

}  // namespace dm::model
