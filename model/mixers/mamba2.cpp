// Mamba-2, the SSD mixer (arXiv 2405.21060): docs/model.md, "Mixers".

#include "core/error.h"
#include "kernels/conv/causal_conv.h"
#include "kernels/gated_norm/gated_norm.h"
#include "kernels/ssd/ssd.h"
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

/// The rows of several branches' tensors, section by section: of [z1 x1 ..], [z2 x2 ..] it makes [z1 z2 x1 x2
/// ..].
std::vector<at::Tensor> interleave(const std::vector<at::Tensor>& branches,
                                   const std::vector<int64_t>& sections) {
  if (branches.size() == 1) return branches;
  std::vector<std::vector<at::Tensor>> parts;
  for (const at::Tensor& branch : branches) parts.push_back(branch.split_with_sizes(sections, 0));
  std::vector<at::Tensor> rows;
  for (size_t section = 0; section < sections.size(); ++section)
    for (const std::vector<at::Tensor>& part : parts) rows.push_back(part[section]);
  return rows;
}

class Mamba2 final : public Mixer {
 public:
  Mamba2(const ModelConfig& config, const Branch& branch, const std::vector<BranchLookup>& branches)
      : config_(config), w_(config, branch, static_cast<int64_t>(branches.size())) {
    const auto all = [&](const char* stem, const char* leaf) {
      std::vector<at::Tensor> tensors;
      for (const BranchLookup& lookup : branches) tensors.push_back(lookup(stem, leaf));
      return tensors;
    };
    const Widths one(config, branch, 1);
    const std::vector<int64_t> xbc = {one.inner, one.group_width(), one.group_width()};
    in_proj_ = interleave(all("in_proj", ".weight"), {one.inner, xbc[0], xbc[1], xbc[2], one.heads});
    conv_weight_ = stack_rows(interleave(all("conv1d", ".weight"), xbc)).squeeze(1);
    conv_bias_ = stack_rows(interleave(all("conv1d", ".bias"), xbc));
    dt_bias_ = stack_rows(all("dt_bias", ""));
    a_ = -stack_rows(all("A_log", "")).exp();
    d_ = stack_rows(all("D", ""));
    norm_ = stack_rows(all("norm", ".weight"));
    spans_ = config.norm_group == "group" ? w_.groups : static_cast<int64_t>(branches.size());
  }

  std::vector<at::Tensor> in_proj_rows() const override { return in_proj_; }

  at::Tensor gated(const at::Tensor& projected, const at::Tensor& seq_idx,
                   const std::optional<at::Tensor>& scale) const override {
    const auto zxd = projected.split_with_sizes({w_.inner, w_.channels(), w_.heads}, -1);
    const at::Tensor conv =
        kernels::causal_conv_silu(zxd[1], conv_weight_, conv_bias_, seq_idx, std::nullopt);  // [B, L, C]
    const Scanned in = scanned(conv, zxd[2]);
    const at::Tensor y =
        kernels::ssd(in.x, in.dt, a_, in.b, in.c, d_, seq_idx, std::nullopt, config_.chunk_size).y;
    return kernels::gated_norm(y.flatten(-2), zxd[0], norm_, spans_, scale, config_.norm_eps);  // [B, L, E]
  }

  at::Tensor gated_step(const at::Tensor& projected, DecodeState& state,
                        const std::optional<at::Tensor>& scale) const override {
    const auto zxd = projected.split_with_sizes({w_.inner, w_.channels(), w_.heads}, -1);
    const at::Tensor conv =
        kernels::causal_conv_step(zxd[1], conv_weight_, conv_bias_, state.window);  // [B, C]
    const Scanned in = scanned(conv, zxd[2]);
    const at::Tensor y =
        kernels::ssd_step(in.x, in.dt, a_, in.b, in.c, d_, state.states[0]).flatten(-2);  // [B, E]
    return kernels::gated_norm(y.unsqueeze(1), zxd[0].unsqueeze(1), norm_, spans_, scale, config_.norm_eps)
        .squeeze(1);
  }

  DecodeState new_state(int64_t batch) const override {
    return {at::zeros({batch, w_.d_conv - 1, w_.channels()}, a_.options()),
            {at::zeros({batch, w_.heads, w_.head_dim, w_.d_state}, a_.options())}};
  }

 private:
  struct Scanned {
    at::Tensor x;     // [.., H, P]
    at::Tensor dt;    // [.., H]
    at::Tensor b, c;  // [.., G, N]
  };
  /// Inputs of the scan from convolved channels and raw step sizes, for whole rows and single tokens alike.
  Scanned scanned(const at::Tensor& conv, const at::Tensor& dt) const {
    const auto xbc = conv.split_with_sizes({w_.inner, w_.group_width(), w_.group_width()}, -1);
    const auto by = [](const at::Tensor& t, int64_t outer, int64_t inner) {
      return t.unflatten(-1, {outer, inner});
    };
    return {by(xbc[0], w_.heads, w_.head_dim), step_size(config_, dt + dt_bias_),
            by(xbc[1], w_.groups, w_.d_state), by(xbc[2], w_.groups, w_.d_state)};
  }

  const ModelConfig& config_;
  Widths w_;
  std::vector<at::Tensor> in_proj_;  // [R, D] in all
  at::Tensor conv_weight_;           // [C, W]
  at::Tensor conv_bias_;             // [C]
  at::Tensor dt_bias_;               // [H]
  at::Tensor a_;                     // [H], < 0
  at::Tensor d_;                     // [H]
  at::Tensor norm_;                  // [E]
  int64_t spans_;                    // of the gated norm
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
