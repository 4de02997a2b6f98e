// Mamba-2, the SSD mixer (arXiv 2405.21060): docs/model.md, "Mixers".

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "kernels/ssd_mixer/ssd_mixer.h"
#include "kernels/vectors/vectors.h"
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

/// The B/C group of each group of a rank that has `heads` of a branch, `per_group` of which share one group.
/// A rank's groups are of equal size, as the scan wants them: where its heads begin or end inside a group,
/// the group's B and C stand in its tensors as often as it takes. Empty without heads.
std::vector<int64_t> groups_of(const Run& heads, int64_t per_group) {
  if (heads.empty()) return {};
  int64_t size = 0;
  for (int64_t begin = heads.begin; begin < heads.end;) {
    const int64_t end = std::min(heads.end, (begin / per_group + 1) * per_group);
    size = std::gcd(size, end - begin);
    begin = end;
  }
  std::vector<int64_t> groups;
  for (int64_t head = heads.begin; head < heads.end; head += size) groups.push_back(head / per_group);
  return groups;
}

/// The spans of the gated norm where some reach over several ranks; their count is 0 where none does.
kernels::SplitSpans split_spans(const ModelConfig& config, const Widths& branch, const MixerPart& part) {
  const bool by_group = config.norm_group == "group";
  const int64_t heads = by_group ? branch.heads / branch.groups : branch.heads;  // of a span
  bool split = false;
  for (const std::vector<Run>& ranks : part.dealt)
    for (const Run& run : ranks) split = split || run.begin % heads != 0 || run.end % heads != 0;
  if (!split) return {};
  kernels::SplitSpans spans;
  for (const int64_t b : part.branches()) {
    if (!by_group) spans.span_of.push_back(b);
    if (by_group)
      for (const int64_t group : groups_of(part.units(b), heads))
        spans.span_of.push_back(b * branch.groups + group);
  }
  const auto branches = static_cast<int64_t>(part.dealt.size());
  spans.count = by_group ? branches * branch.groups : branches;
  spans.width = heads * branch.head_dim;
  return spans;
}

class Mamba2 final : public Mixer {
 public:
  Mamba2(const ModelConfig& config, const Branch& branch, const std::vector<BranchLookup>& branches,
         const MixerPart& part) {
    const Widths one(config, branch, 1);
    const auto count = static_cast<int64_t>(branches.size());
    const int64_t first = part.branches().front();
    const Run& heads = part.units(first);
    const auto groups = static_cast<int64_t>(groups_of(heads, one.heads / one.groups).size());
    const auto all = [&](const char* stem, const char* leaf,
                         kernels::VectorMap map = kernels::VectorMap::same) {
      kernels::VectorParts parts;
      for (const BranchLookup& lookup : branches) parts.push_back({lookup(stem, leaf), map});
      return parts;
    };
    const std::vector<at::Tensor> vectors = kernels::gather_vectors(
        {all("conv1d", ".weight"), all("conv1d", ".bias"), all("dt_bias", ""),
         all("A_log", "", kernels::VectorMap::negative_exp), all("D", ""), all("norm", ".weight")});
    weights_ = {.conv_weight = vectors[0].view({-1, config.d_conv}),
                .conv_bias = vectors[1],
                .dt_bias = vectors[2],
                .a = vectors[3],
                .d = vectors[4],
                .norm = vectors[5]};
    form_ = {
        .branches = count,
        .inner = heads.count() * one.head_dim,
        .heads = heads.count(),
        .groups = groups,
        .d_state = one.d_state,
        .spans = config.norm_group == "group" ? count * groups : count,
        .eps = config.norm_eps,
        .dt_min = std::max(0.0, config.dt_limit_min),
        .dt_max = config.dt_limit_max > 0 ? config.dt_limit_max : std::numeric_limits<double>::infinity(),
        .chunk = config.chunk_size,
        .recompute = keeps_everything(config) ? kernels::MixerRecompute::none
                     : scans_again(config)    ? kernels::MixerRecompute::scan
                                              : kernels::MixerRecompute::conv,
        .exact_states = config.state_dtype == "f32"};
    reach_.spans = split_spans(config, one, part);
    reach_.tensor = part.placement.tensor;
  }

  void want_gradients_only() override { form_.gradients_only = true; }

  at::Tensor gated(const at::Tensor& projected, const kernels::Documents& documents,
                   const std::optional<at::Tensor>& scale) const override {
    Passed passed(reach_, documents);
    const at::Tensor out = kernels::ssd_mixer(projected, weights_, scale, documents, form_, passed.reach);
    passed.take_down(documents);
    return out;
  }

  at::Tensor output(const at::Tensor& projected, const kernels::Documents& documents,
                    const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj) const override {
    Passed passed(reach_, documents);
    const at::Tensor out =
        kernels::ssd_mixer(projected, weights_, scale, documents, form_, passed.reach, out_proj);
    passed.take_down(documents);
    return out;
  }

  at::Tensor gated_step(const at::Tensor& projected, DecodeState& state,
                        const std::optional<at::Tensor>& scale) const override {
    kernels::SsdMixerState carried{state.window, state.states[0]};
    return kernels::ssd_mixer_step(projected, weights_, scale, carried, form_);
  }

  at::Tensor output_step(const at::Tensor& projected, DecodeState& state,
                         const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj,
                         kernels::DecodeChain& chain) const override {
    kernels::SsdMixerState carried{state.window, state.states[0]};
    return kernels::ssd_mixer_step(projected, weights_, scale, carried, form_, out_proj, chain);
  }

  DecodeState new_state(int64_t batch, at::ScalarType activations) const override {
    const at::TensorOptions options = weights_.conv_weight.options();
    const int64_t channels = weights_.conv_weight.size(0), window = weights_.conv_weight.size(1) - 1;
    const int64_t heads = form_.branches * form_.heads, head_dim = form_.inner / form_.heads;
    return {{at::zeros({batch, window, channels}, options.dtype(activations)),
             {at::zeros({batch, heads, head_dim, form_.d_state}, options)}},
            {}};
  }

 private:
  /// What enters and leaves rows that go on from batch to batch, in one pass over them.
  struct Passed {
    kernels::SsdMixerState entering, leaving;
    kernels::SsdMixerReach reach;
    Passed(const kernels::SsdMixerReach& elsewhere, const kernels::Documents& documents) : reach(elsewhere) {
      if (!documents.carried) return;
      entering = {documents.carried->before.window, documents.carried->before.states.at(0)};
      if (documents.rows_begin_here()) reach.entering = &entering;
      if (documents.rows_end_here()) reach.leaving = &leaving;
    }
    Passed(const Passed&) = delete;
    void take_down(const kernels::Documents& documents) {
      if (!leaving.state.defined()) return;  // nothing is carried, or a layer is made again
      documents.carried->after = {documents.of_the_last(leaving.window), {leaving.state}};
    }
  };

  kernels::SsdMixerForm form_{};
  kernels::SsdMixerWeights weights_;
  kernels::SsdMixerReach reach_;
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

  std::vector<BranchParameter> parameters(const ModelConfig& config, const Branch& branch,
                                          const std::vector<Run>& dealt) const override {
    const Widths w(config, branch, 1);
    const Init conv = Init::linear(w.d_conv);
    const Cut rows = row_cut(w, dealt), channels = channel_cut(w, dealt), heads = cut_along(0, dealt);
    const Cut inner = cut_along(0, dealt, w.head_dim), columns = cut_along(1, dealt, w.head_dim);
    const int64_t d = config.d_model;
    return {{"in_proj", ".weight", {w.rows(), d}, true, Init::linear(d), false, rows},
            {"conv1d", ".weight", {w.channels(), 1, w.d_conv}, true, conv, true, channels},
            {"conv1d", ".bias", {w.channels()}, false, conv, true, channels},
            {"dt_bias", "", {w.heads}, false, Init::step_bias(), false, heads},
            {"A_log", "", {w.heads}, false, Init::log_uniform(1, 16), false, heads},
            {"D", "", {w.heads}, false, Init::constant(1), false, heads},
            {"norm", ".weight", {w.inner}, false, Init::constant(1), true, inner},
            {"out_proj", ".weight", {d, w.inner}, true, out_proj_init(config, w.inner), true, columns}};
  }

  std::vector<CarriedTensor> carried(const ModelConfig& config, const Branch& branch,
                                     const std::vector<Run>& dealt) const override {
    const Widths w(config, branch, 1);
    return window_and_state(config, channel_cut(w, dealt), w.channels(), {w.heads, w.head_dim, w.d_state},
                            cut_along(0, dealt));
  }

  std::unique_ptr<Mixer> bind(const ModelConfig& config, const Branch& branch,
                              const std::vector<BranchLookup>& branches,
                              const MixerPart& part) const override {
    return std::make_unique<Mamba2>(config, branch, branches, part);
  }

  std::vector<Exchange> exchanges(const ModelConfig& config, const Branch& branch, const MixerPart& part,
                                  const PassSize& size, bool backward) const override {
    std::vector<Exchange> all;
    const Widths w(config, branch, 1);
    if (part.placement.cp > 1) {
      int64_t channels = 0, heads = 0;
      for (const int64_t b : part.branches()) {
        const Run& run = part.units(b);
        const auto groups = static_cast<int64_t>(groups_of(run, w.heads / w.groups).size());
        channels += run.count() * w.head_dim + 2 * groups * w.d_state;
        heads += run.count();
      }
      add_tokens_before(all, part.placement, size.rows * (w.d_conv - 1) * channels, backward);
      add_state_before(all, part.placement, size.rows * heads * (w.head_dim * w.d_state + 1),
                       Exchange::Element::weight, backward);
    }
    const int64_t spans = split_spans(config, w, part).count;
    if (spans > 0) add_sum_over_ranks(all, size.tokens() * spans, backward);
    return all;
  }

  std::vector<StageCost> stages(const ModelConfig& config, const Branch& branch,
                                int64_t branches) const override {
    const Widths w(config, branch, branches);
    const double e = w.inner, gn = w.group_width(), c = w.channels(), h = w.heads, n = w.d_state,
                 q = config.chunk_size;
    // Tiles of 64 x 64 above the diagonal of a chunk are skipped: of t x t tiles, t (t + 1) / 2 are computed.
    const double tiles = std::max(1.0, q / 64), causal = (tiles + 1) / (2 * tiles);
    const double taps = 2.0 * w.d_conv;
    return {{"conv", taps * c, 3 * taps * c, 4 * c + 10 * h, 6 * c, /*made_again=*/true},
            {"ssd", causal * 2 * q * (gn + e) + 4 * n * e, causal * q * (6 * gn + 4 * e) + 8 * n * e,
             2 * c + 2 * e + 2 * n * e / q, 4 * c + 2 * e + 2 * n * e / q},
            {"gated_norm", 0, 0, 6 * e, 10 * e, /*made_again=*/true}};
  }

  // Kept: projected, Δ, the state before every 64 tokens with sums of the decay, y, the roots of the norm;
  // with `none` the convolution's output and the gate's as well, which otherwise are made again while it
  // works. Working: the convolution's output and its gradient, that of projected, y's and out's, the states',
  // parts of Δ's. What the scan's kernels take for several heads or states (kernels/ssd/cuda/fast_shape.cuh)
  // has sums and parts for each.
  LayerMemory memory(const ModelConfig& config, const Branch& branch, int64_t branches,
                     double bytes) const override {
    const Widths w(config, branch, branches);
    const int64_t fold = w.head_dim % 64 == 0 ? w.head_dim / 64 : std::max<int64_t>(w.head_dim / 32, 1);
    const int64_t parts = fold * ((w.d_state + 127) / 128);
    const double e = w.inner, h = w.heads, states = e * w.d_state * 2 / 64, decays = 8 * h * fold;
    const double projected = bytes * static_cast<double>((w.rows() + 63) / 64 * 64);
    const double scan = 4 * h + states + decays + bytes * e + 4 * branches;
    const double ddt = 4 * h * (parts == 1 ? 1 : 1 + parts);
    const double again = bytes * (w.channels() + e);
    return {projected + scan, projected, 2 * again + projected + states + ddt, again};
  }

 private:
  /// x | B | C of each rank's heads, behind what it has already; a group's B and C are one run for each time
  /// they stand there.
  static void append_channels(Cut& cut, const Widths& w, const std::vector<Run>& dealt, int64_t offset) {
    append(cut, dealt, w.head_dim, offset);
    for (int64_t section = 0; section < 2; ++section)  // B, C
      for (size_t rank = 0; rank < dealt.size(); ++rank)
        for (const int64_t group : groups_of(dealt[rank], w.heads / w.groups)) {
          const int64_t begin = offset + w.inner + section * w.group_width() + group * w.d_state;
          cut.ranks[rank].push_back({begin, begin + w.d_state});
        }
  }

  static Cut channel_cut(const Widths& w, const std::vector<Run>& dealt) {
    Cut cut;
    append_channels(cut, w, dealt, 0);
    return cut;
  }

  static Cut row_cut(const Widths& w, const std::vector<Run>& dealt) {
    Cut cut;
    append(cut, dealt, w.head_dim, 0);              // z
    append_channels(cut, w, dealt, w.inner);        // x | B | C
    append(cut, dealt, 1, w.inner + w.channels());  // dt
    return cut;
  }
};

}  // namespace

const MixerKind& mamba2_kind() {
  static const Mamba2Kind kind;
  return kind;
}

}  // namespace dm::model
