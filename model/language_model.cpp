#include "model/language_model.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "model/layers/registry.h"
#include "model/matrices.h"
#include "model/residual.h"
#include "model/scope.h"

namespace dm::model {
namespace {

void report(const LanguageModel::Taps* taps, int64_t layer, const at::Tensor& h) {
  if (taps && std::find(taps->layers.begin(), taps->layers.end(), layer) != taps->layers.end())
    taps->visit(layer, h);
}

DifferenceStats statistics(int64_t layer, const PlainDifference& d) {
  const auto wide = [](const at::Tensor& t) {
    return t.scalar_type() == at::kBFloat16 ? t.to(at::kFloat) : t;
  };
  const at::Tensor y_1 = wide(d.y_1), y_2 = wide(d.y_2);
  const at::Tensor norm_1 = y_1.norm(2, -1), norm_2 = y_2.norm(2, -1);  // [B, L]
  const at::Tensor cosine = (y_1 * y_2).sum(-1) / (norm_1 * norm_2).clamp_min(1e-30);
  const auto mean = [](const at::Tensor& t) { return t.mean().item<double>(); };
  return {layer, mean(d.lambda), mean(norm_1), mean(norm_2), mean(cosine)};
}

}  // namespace

LanguageModel::LanguageModel(const ModelConfig& config, Parameters parameters,
                             std::optional<at::ScalarType> activations, const Placement& placement)
    : config_(config),
      letters_(layer_letters(config)),
      parameters_(std::move(parameters)),
      placement_(placement) {
  validate(config_);
  check_placement(config_, placement_.tp, placement_.cp);
  DM_CHECK(placement_.tp == 1 && placement_.cp == 1, "a model on several ranks is still to come");
  check_parameters(config_, parameters_, placement_);
  const at::Tensor& leaf = parameters_.begin()->second;
  activations_ = activations.value_or(leaf.scalar_type());
  if (leaf.is_cuda()) matrices_ = std::make_unique<Matrices>(parameters_, activations_);
  DM_CHECK(matrices_ || activations_ == leaf.scalar_type(),
           "on the CPU activations are of the weights' type");
}

LanguageModel::~LanguageModel() = default;

void LanguageModel::weights_changed() {
  if (matrices_) matrices_->refresh();
}

const LayerKind& LanguageModel::kind(int64_t index) const {
  return layer_kind(letters_[static_cast<size_t>(index)]);
}

LayerView LanguageModel::layer(int64_t index) const {
  return {config_, index, Scope(parameters_, layer_prefix(index), matrices_.get()), placement_};
}

Scope LanguageModel::norm_before(int64_t index) const {
  const std::string name = index < layers() ? layer_prefix(index) + "norm." : "backbone.norm_f.";
  return {parameters_, name, matrices_.get()};
}

Stream LanguageModel::enter(const at::Tensor& ids) const {
  const at::Tensor h = kernels::embedding(ids, embeddings());
  return model::enter(config_, h, norm_before(0), activations_);
}

Stream LanguageModel::add(int64_t index, const Stream& stream, const at::Tensor& y,
                          const std::optional<at::Tensor>& output_norm) const {
  return model::add(config_, stream, y, output_norm, norm_before(index), norm_before(index + 1),
                    index + 1 == layers());
}

kernels::Weight LanguageModel::embeddings() const {
  const at::Tensor& leaf = parameters_.at("backbone.embeddings.weight");
  if (!matrices_ || !leaf.grad().defined()) return leaf;
  return {leaf.detach(), {{leaf.grad(), 0, 0}}};
}

kernels::Weight LanguageModel::head() const {
  return Scope(parameters_, "", matrices_.get())
      .matrix(config_.tied ? "backbone.embeddings.weight" : "lm_head.weight");
}

at::Tensor LanguageModel::documents(const at::Tensor& seq_idx) const {
  const at::Tensor ids = seq_idx.to(at::kInt);
  return config_.packed ? ids : at::zeros_like(ids);
}

at::Tensor LanguageModel::hidden(const at::Tensor& ids, const at::Tensor& seq_idx, const Taps* taps) const {
  const at::Tensor documents = this->documents(seq_idx);  // [B, L]
  Stream stream = enter(ids);                             // [B, L, D]
  report(taps, -1, stream.h);
  for (int64_t i = 0; i < layers(); ++i) {
    const auto block = kind(i).bind(layer(i));
    stream = add(i, stream, block->forward(stream.u, documents), block->output_norm());
    report(taps, i, stream.h);
  }
  return stream.u;  // [B, L, D]
}

at::Tensor LanguageModel::logits(const at::Tensor& ids, const at::Tensor& seq_idx, const Taps* taps) const {
  return kernels::linear(hidden(ids, seq_idx, taps), head());  // [B, L, V]
}

at::Tensor LanguageModel::loss_sum(const at::Tensor& tokens, const at::Tensor& seq_idx,
                                   const at::Tensor& mask, at::Tensor* per_target) const {
  const int64_t length = tokens.size(1) - 1;
  DM_CHECK(length >= 1, "a row of {} tokens predicts nothing", tokens.size(1));
  const at::Tensor h = hidden(tokens.narrow(1, 0, length), seq_idx).flatten(0, 1);  // [B L, D]
  const at::Tensor targets = tokens.narrow(1, 1, length).reshape(-1);               // [B L]
  const kernels::CrossEntropy loss =
      kernels::linear_cross_entropy(h, head(), targets, mask.reshape(-1).to(at::kByte));
  if (per_target) *per_target = loss.per_target.view({tokens.size(0), length});
  return loss.sum;
}

std::vector<DifferenceStats> LanguageModel::difference_stats(const at::Tensor& ids,
                                                             const at::Tensor& seq_idx) const {
  const at::NoGradGuard no_gradients;
  const at::Tensor documents = this->documents(seq_idx);
  std::vector<DifferenceStats> stats;
  Stream stream = enter(ids);
  for (int64_t i = 0; i < layers(); ++i) {
    if (!kind(i).has_difference()) {
      const auto block = kind(i).bind(layer(i));
      stream = add(i, stream, block->forward(stream.u, documents), block->output_norm());
      continue;
    }
    const PlainDifference difference = kind(i).plain(layer(i), stream.u, documents);
    stats.push_back(statistics(i, difference));
    stream = add(i, stream, difference.output, std::nullopt);
  }
  return stats;
}

}  // namespace dm::model
