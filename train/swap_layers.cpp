#include "train/swap_layers.h"

#include <algorithm>

#include "core/error.h"
#include "model/interchange.h"
#include "model/language_model.h"
#include "model/layers/registry.h"

namespace dm::train {
namespace {

int64_t product(const std::vector<int64_t>& shape, size_t first) {
  int64_t count = 1;
  for (size_t d = first; d < shape.size(); ++d) count *= shape[d];
  return count;
}

std::vector<int64_t> shape_of(const model::ModelConfig& config, const std::string& name) {
  for (const model::ParameterInfo& info : model::parameter_infos(config))
    if (info.name == name) return info.shape;
  DM_FAIL(ExitCode::internal, "{} is no parameter of the plain model", name);
}

/// Half of the channels of every head.
class Heads {
 public:
  Heads(const model::ModelConfig& plain, int64_t branch)
      : head_dim_(plain.head_dim_plain), heads_(2 * plain.d_model / head_dim_), branch_(branch) {}

  int64_t channels() const { return heads_ * head_dim_; }
  /// Of `channels()` items of `size` elements from `begin` on.
  void append(int64_t begin, int64_t size, std::vector<Run>& runs) const {
    const int64_t half = head_dim_ / 2;
    for (int64_t h = 0; h < heads_; ++h)
      runs.push_back({begin + (h * head_dim_ + branch_ * half) * size, half * size});
  }

 private:
  int64_t head_dim_, heads_, branch_;
};

std::vector<Run> by_head(const std::string& leaf, const std::vector<int64_t>& from, const Heads& heads) {
  std::vector<Run> runs;
  const int64_t row = product(from, 1), channels = heads.channels(), all = product(from, 0);
  if (leaf == "in_proj.weight") {  // z, x | B, C, Δ
    heads.append(0, row, runs);
    heads.append(channels * row, row, runs);
    runs.push_back({2 * channels * row, all - 2 * channels * row});
  } else if (leaf.starts_with("conv1d.")) {  // x | B, C
    heads.append(0, row, runs);
    runs.push_back({channels * row, all - channels * row});
  } else if (leaf == "norm.weight") {
    heads.append(0, 1, runs);
  } else if (leaf == "out_proj.weight") {
    for (int64_t r = 0; r < from[0]; ++r) heads.append(r * channels, 1, runs);
  } else {
    runs.push_back({0, all});
  }
  return runs;
}

std::vector<Run> by_rows(const std::vector<int64_t>& from, const std::vector<int64_t>& to, int64_t branch) {
  const auto skip = [&](int64_t size, int64_t wanted) { return branch == 0 ? 0 : size - wanted; };
  if (from[0] != to[0]) {
    const int64_t row = product(from, 1);
    return {{skip(from[0], to[0]) * row, to[0] * row}};
  }
  std::vector<Run> runs;
  const int64_t wide = product(from, 1), narrow = product(to, 1);
  for (int64_t r = 0; r < from[0]; ++r) runs.push_back({r * wide + skip(wide, narrow), narrow});
  return runs;
}

}  // namespace

model::ModelConfig swap_last_layers(const model::ModelConfig& config, int64_t count) {
  std::string letters = model::layer_letters(config);
  const char plain = model::plain_mixer_kind().letter(), differential = model::differential_kind().letter();
  const auto layers = static_cast<int64_t>(letters.size());
  DM_REQUIRE(count <= layers, ExitCode::usage, "--swap-last {}: the model has {} layers", count, layers);
  const bool fits = config.mixer == "mamba2" && config.head_dim_plain % 2 == 0 &&
                    std::all_of(letters.end() - count, letters.end(), [&](char c) { return c == plain; });
  const bool same_heads =
      letters.find(differential) == std::string::npos || config.head_dim_plain == 2 * config.head_dim;
  DM_REQUIRE(
      fits && same_heads, ExitCode::usage,
      "--swap-last {}: the last layers must be plain Mamba-2 mixers with an even head width, twice that of "
      "differential layers before them; this is {} \"{}\" with widths {} and {}",
      count, config.mixer, config.pattern, config.head_dim_plain, config.head_dim);
  std::fill(letters.end() - count, letters.end(), differential);
  model::ModelConfig swapped = config;
  swapped.pattern = model::compact_pattern(letters);
  swapped.layers = 0;
  swapped.head_dim = config.head_dim_plain / 2;
  model::validate(swapped);
  return swapped;
}

std::optional<SwapSource> swap_source(const std::string& name, const std::vector<int64_t>& shape,
                                      const model::ModelConfig& plain, const std::string& split) {
  for (int64_t branch = 0; branch < 2; ++branch) {
    const std::string part = fmt::format(".mixer_{}.", branch + 1);
    const size_t at = name.find(part);
    if (at == std::string::npos) continue;
    const std::string leaf = name.substr(at + part.size()), source = name.substr(0, at) + ".mixer." + leaf;
    const std::vector<int64_t> from = shape_of(plain, source);
    if (split == "head") return SwapSource{source, by_head(leaf, from, Heads(plain, branch))};
    return SwapSource{source, by_rows(from, shape, branch)};
  }
  return std::nullopt;
}

}  // namespace dm::train
