// The list of a model's parameters, and the check of tensors against it.

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "model/adaptive_softmax.h"
#include "model/layers/registry.h"
#include "model/local_parameters.h"
#include "model/matrices.h"
#include "model/residual.h"

namespace dm::model {

namespace {

/// Equal numbers of rows, a multiple of 64 for the GEMM's sake; what exceeds the vocabulary is padding, zero
/// and never read.
Cut vocabulary_cut(int64_t vocabulary, int64_t tp) {
  if (tp == 1) return {};
  constexpr int64_t kMultiple = 64;
  const int64_t rows = (vocabulary + kMultiple * tp - 1) / (kMultiple * tp) * kMultiple;
  std::vector<Run> runs;
  for (int64_t rank = 0; rank < tp; ++rank)
    runs.push_back({std::min(vocabulary, rank * rows), std::min(vocabulary, (rank + 1) * rows)});
  Cut cut = cut_along(0, runs);
  cut.padded = rows;
  return cut;
}

}  // namespace

std::string layer_prefix(int64_t index) { return fmt::format("backbone.layers.{}.", index); }

at::Tensor Scope::operator[](const std::string& name) const {
  const auto found = parameters_->find(prefix_ + name);
  DM_CHECK(found != parameters_->end(), "{}{} is no parameter of this model", prefix_, name);
  return found->second;
}

kernels::Weight Scope::stacked(const std::vector<std::string>& names, int64_t dim) const {
  if (matrices_) {
    std::vector<std::string> full;
    for (const std::string& name : names) full.push_back(prefix_ + name);
    return matrices_->stacked(full, dim);
  }
  std::vector<at::Tensor> leaves;
  for (const std::string& name : names) leaves.push_back((*this)[name]);
  return stack(leaves, dim);
}

at::Tensor stack(const std::vector<at::Tensor>& pieces, int64_t dim) {
  return pieces.size() == 1 ? pieces[0] : at::cat(pieces, dim);
}

int64_t ParameterInfo::count() const {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

std::vector<DeclaredParameter> declared_parameters(const ModelConfig& config, int64_t tp) {
  std::vector<DeclaredParameter> all;
  const Declare declare(all, tp);
  const std::string letters = layer_letters(config);
  size_t placed = 0;
  const auto declared_at = [&](int64_t depth) {
    while (placed < all.size()) all[placed++].info.depth = depth;
  };
  const Cut vocabulary = vocabulary_cut(config.vocab_size, tp);
  declare.matrix("backbone.embeddings.weight", {config.vocab_size, config.d_model}, Init::normal(0.02),
                 vocabulary);
  declared_at(0);
  for (int64_t i = 0; i < static_cast<int64_t>(letters.size()); ++i) {
    const Declare layer = declare.inside(layer_prefix(i));
    declare_norm(config, "norm", layer);
    layer_kind(letters[static_cast<size_t>(i)]).declare(config, i, layer);
    declared_at(i);
  }
  declare_norm(config, "backbone.norm_f", declare);
  if (!config.tied)
    declare.matrix("lm_head.weight", {config.vocab_size, config.d_model}, Init::linear(config.d_model),
                   vocabulary);
  if (const int64_t clusters = cluster_count(config); clusters > 0)
    declare.matrix(kClusterWeight, {clusters, config.d_model}, Init::linear(config.d_model),
                   on_first(clusters, tp));
  declared_at(static_cast<int64_t>(letters.size()));
  return all;
}

std::vector<DeclaredParameter> declared_carried(const ModelConfig& config, int64_t tp) {
  std::vector<DeclaredParameter> all;
  const Declare declare(all, tp);
  const std::string letters = layer_letters(config);
  for (int64_t i = 0; i < static_cast<int64_t>(letters.size()); ++i) {
    const size_t placed = all.size();
    layer_kind(letters[static_cast<size_t>(i)]).declare_carried(config, declare.inside(layer_prefix(i)));
    for (size_t k = placed; k < all.size(); ++k) all[k].info.depth = i;
  }
  return all;
}

std::vector<ParameterInfo> parameter_infos(const ModelConfig& config) {
  std::vector<ParameterInfo> infos;
  for (DeclaredParameter& p : declared_parameters(config, 1)) infos.push_back(std::move(p.info));
  return infos;
}

int64_t parameter_count(const ModelConfig& config) {
  int64_t count = 0;
  for (const ParameterInfo& info : parameter_infos(config)) count += info.count();
  return count;
}

void check_parameters(const ModelConfig& config, const Parameters& parameters, const Placement& placement) {
  const std::vector<LocalParameter> locals = local_parameters(config, placement);
  for (const auto& [info, shape, pieces] : locals) {
    const auto found = parameters.find(info.name);
    DM_REQUIRE(found != parameters.end(), ExitCode::bad_data,
               "{} is missing: the weights are not of this model", info.name);
    const at::Tensor& tensor = found->second;
    DM_REQUIRE(tensor.sizes().vec() == shape, ExitCode::bad_data, "{} is [{}], this model's is [{}]",
               info.name, fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", "));
    DM_REQUIRE(tensor.is_floating_point() && tensor.scalar_type() == parameters.begin()->second.scalar_type(),
               ExitCode::bad_data, "{} holds {}, {} holds {}: all parameters share one floating type",
               info.name, at::toString(tensor.scalar_type()), parameters.begin()->first,
               at::toString(parameters.begin()->second.scalar_type()));
  }
  if (parameters.size() == locals.size()) return;
  std::map<std::string, bool> known;
  for (const LocalParameter& local : locals) known[local.info.name] = true;
  for (const auto& [name, tensor] : parameters)
    DM_REQUIRE(known.contains(name), ExitCode::bad_data, "{} is no parameter of this model", name);
}

}  // namespace dm::model
