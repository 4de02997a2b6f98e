#include "model/language_model.h"

#include <ATen/core/grad_mode.h>
#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "kernels/comm/tensor_axis.h"
#include "kernels/comm/transport.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/cross_entropy/split_cross_entropy.h"
#include "kernels/dropout/dropout.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "model/adaptive_softmax.h"
#include "model/layers/registry.h"
#include "model/matrices.h"
#include "model/recompute.h"
#include "model/residual.h"
#include "model/scope.h"

namespace dm::model {
namespace {

bool tapped(const LanguageModel::Taps* taps, int64_t layer) {
  return taps && std::find(taps->layers.begin(), taps->layers.end(), layer) != taps->layers.end();
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
  DM_CHECK((placement_.tp == 1 || placement_.tensor) && (placement_.cp == 1 || placement_.context),
           "a placement without its groups");
  check_parameters(config_, parameters_, placement_);
  const at::Tensor& leaf = parameters_.begin()->second;
  activations_ = activations.value_or(leaf.scalar_type());
  check_device(config_, leaf.is_cuda());
  if (leaf.is_cuda()) {
    std::map<std::string, int64_t> depths;
    for (const ParameterInfo& info : parameter_infos(config_)) depths.emplace(info.name, info.depth);
    matrices_ = std::make_unique<Matrices>(parameters_, activations_, std::move(depths));
  }
  DM_CHECK(matrices_ || activations_ == leaf.scalar_type(),
           "on the CPU activations are of the weights' type");
}

LanguageModel::~LanguageModel() = default;

void LanguageModel::weights_changed(int64_t begin, int64_t end) {
  if (matrices_) matrices_->refresh(begin, end);
}

int64_t LanguageModel::matrices() const { return matrices_ ? matrices_->count() : 0; }

const LayerKind& LanguageModel::kind(int64_t index) const {
  return layer_kind(letters_[static_cast<size_t>(index)]);
}

LayerView LanguageModel::layer(int64_t index) const {
  reads(index);
  return {config_, index, Scope(parameters_, layer_prefix(index), matrices_.get()), placement_};
}

Scope LanguageModel::norm_before(int64_t index) const {
  reads(index);
  const std::string name = index < layers() ? layer_prefix(index) + "norm." : "backbone.norm_f.";
  return {parameters_, name, matrices_.get()};
}

Stream LanguageModel::enter(const at::Tensor& ids, const TrainingRows* rows) const {
  const at::Tensor h = dropped(embedded(ids), config_.embedding_dropout, "embedding", ids, rows);
  return model::enter(config_, h, norm_before(0), activations_);
}

at::Tensor LanguageModel::dropped(const at::Tensor& x, double p, const std::string& name,
                                  const at::Tensor& ids, const TrainingRows* rows) const {
  if (rows == nullptr || p == 0) return x;
  const int64_t first = kernels::TokenShare(ids.numel(), placement_.tp, placement_.tp_rank).begin;
  return kernels::dropout(x, p, CounterRng(rows->seed, "dropout " + name),
                          {rows->samples, ids.size(1), rows->position, first});
}

at::Tensor LanguageModel::embedded(const at::Tensor& ids) const {
  if (placement_.tp == 1) return kernels::embedding(ids, embeddings());
  // Of every token one rank has the row; the others add zeros.
  const kernels::VocabularyShare share = vocabulary_share();
  const at::Tensor row = ids.reshape(-1) - share.begin;
  const at::Tensor mine = row.ge(0).logical_and(row.lt(share.count));
  const at::Tensor rows =
      kernels::embedding(row.clamp(0, std::max<int64_t>(share.count - 1, 0)), embeddings());
  return kernels::scatter_sum(at::where(mine.unsqueeze(1), rows, at::zeros({}, rows.options())),
                              *placement_.tensor);
}

kernels::VocabularyShare LanguageModel::vocabulary_share() const {
  const int64_t rows = parameters_.at("backbone.embeddings.weight").size(0), v = config_.vocab_size;
  const int64_t begin = std::min(v, placement_.tp_rank * rows);
  return {begin, std::min(v, begin + rows) - begin, v, placement_.tensor};
}

at::Tensor LanguageModel::all_tokens(const at::Tensor& mine, const at::Tensor& ids) const {
  if (placement_.tp == 1) return mine;
  return kernels::gather_tokens(mine, ids.numel(), *placement_.tensor).view({ids.size(0), ids.size(1), -1});
}

at::Tensor LanguageModel::own_tokens(const at::Tensor& part) const {
  return placement_.tp == 1 ? part : kernels::scatter_sum(part.flatten(0, 1), *placement_.tensor);
}

Stream LanguageModel::add(int64_t index, const Stream& stream, const at::Tensor& y,
                          const std::optional<at::Tensor>& output_norm) const {
  return model::add(config_, stream, y, output_norm, norm_before(index), norm_before(index + 1),
                    index + 1 == layers());
}

StepStream LanguageModel::step_enter(const at::Tensor& ids, kernels::DecodeChain& chain) const {
  return {config_, kernels::embedding(ids, embeddings()), activations_, norm_before(0), chain};
}

StepStream LanguageModel::step_add(int64_t index, const StepStream& stream, const at::Tensor& y,
                                   const std::optional<at::Tensor>& output_norm) const {
  return {config_, stream, y, output_norm, norm_before(index), norm_before(index + 1), index + 1 == layers()};
}

kernels::Weight LanguageModel::embeddings() const {
  reads(0);
  const at::Tensor& leaf = parameters_.at("backbone.embeddings.weight");
  if (!matrices_ || !leaf.grad().defined()) return leaf;
  return {leaf.detach(), {{leaf.grad(), 0, 0}}};
}

kernels::Weight LanguageModel::head() const {
  reads(config_.tied ? 0 : layers());
  return Scope(parameters_, "", matrices_.get()).matrix(head_name());
}

kernels::Weight LanguageModel::logit_rows() const {
  if (cluster_count(config_) == 0) return head();
  reads(layers());
  return Scope(parameters_, "", matrices_.get()).stacked({head_name(), kClusterWeight}, 0);
}

at::Tensor LanguageModel::logits_of(const at::Tensor& product) const {
  return cluster_count(config_) == 0 ? product : adaptive_log_probabilities(config_, product);
}

const char* LanguageModel::head_name() const {
  return config_.tied ? "backbone.embeddings.weight" : "lm_head.weight";
}

at::Tensor LanguageModel::clusters() const {
  reads(layers());
  const auto found = parameters_.find(kClusterWeight);
  return found == parameters_.end() ? at::Tensor() : found->second;
}

void LanguageModel::watch(int64_t index, const Stream& stream) const {
  // Autograd runs the youngest of the nodes that are ready first: when this gradient is whole, everything
  // that was computed after `u` has been differentiated.
  if (passed_ && stream.u.requires_grad())
    stream.u.register_hook([this, index](const at::Tensor&) { passed_(index); });
}

kernels::Documents LanguageModel::documents(const at::Tensor& seq_idx, bool carried) const {
  const at::Tensor numbers = seq_idx.to(at::kInt);
  const at::Tensor ids = config_.packed ? numbers : at::zeros_like(numbers);
  const int64_t before = std::max<int64_t>(config_.d_conv - 1, 1);
  // What is carried is of the first token's document, or zero.
  const at::Tensor first = carried ? ids.narrow(1, 0, 1).expand({-1, before}) : at::Tensor();
  if (placement_.cp > 1) return {ids, *placement_.context, before, first};
  return carried ? kernels::Documents(ids, first.contiguous()) : kernels::Documents(ids);
}

at::Tensor LanguageModel::hidden(const at::Tensor& ids, const at::Tensor& seq_idx, const Taps* taps,
                                 const TrainingRows* rows) const {
  const auto report = [&](int64_t layer, const Stream& stream) {
    if (tapped(taps, layer)) taps->visit(layer, all_tokens(stream.h, ids));
  };
  const bool carried = rows != nullptr && rows->carried != nullptr;
  kernels::Documents documents = this->documents(seq_idx, carried);  // [B, L]
  Stream stream = enter(ids, rows);                                  // [B, L, D], or the rank's tokens [t, D]
  report(-1, stream);
  for (int64_t i = 0; i < layers(); ++i) {
    watch(i, stream);
    if (carried) documents.carried = &rows->carried->at(static_cast<size_t>(i));
    const auto block = kind(i).bind(layer(i));
    const at::Tensor u = all_tokens(stream.u, ids);  // [B, L, D]
    // Where u is not the rank's own tokens alone, its norm does not give it.
    const at::Tensor h = config_.block_norm == "pre" && placement_.tp == 1 ? stream.h : at::Tensor();
    const bool again = at::GradMode::is_enabled() && i < recomputed_layers(config_, layers());
    const at::Tensor y = again ? recomputed(layer(i), kind(i), *block, norm_before(i), h, u, documents)
                               : block->forward(u, documents);  // [B, L, D], a rank's part
    at::Tensor output = own_tokens(y);
    std::optional<at::Tensor> output_norm = block->output_norm();
    if (rows != nullptr && config_.dropout > 0) {  // of what is added, so behind the block's own norm
      if (output_norm) output = kernels::rms_norm(output, *output_norm, config_.norm_eps);
      output_norm.reset();
      output = dropped(output, config_.dropout, fmt::format("layer {}", i), ids, rows);
    }
    stream = add(i, stream, output, output_norm);
    report(i, stream);
  }
  return all_tokens(dropped(stream.u, config_.head_dropout, "head", ids, rows), ids);  // [B, L, D]
}

at::Tensor LanguageModel::logits(const at::Tensor& ids, const at::Tensor& seq_idx, const Taps* taps) const {
  const at::Tensor h = hidden(ids, seq_idx, taps);
  if (placement_.tp == 1) return logits_of(kernels::linear(h, logit_rows()));  // [B, L, V]
  const auto of_all_ranks = [&](const at::Tensor& rows) {
    const at::Tensor mine = kernels::linear(h.detach(), rows.detach()).flatten(0, 1);
    return kernels::all_gather(mine, *placement_.tensor);  // [tp, B L, rows]
  };
  at::Tensor all = of_all_ranks(head().value).permute({1, 0, 2}).flatten(1).narrow(1, 0, config_.vocab_size);
  if (const int64_t count = cluster_count(config_); count > 0) {  // the first rank has them
    const at::Tensor rows = clusters().defined() ? clusters() : at::zeros({count, h.size(-1)}, h.options());
    all = at::cat({all, of_all_ranks(rows)[0]}, 1);
  }
  return logits_of(all).unflatten(0, ids.sizes());
}

kernels::CrossEntropy LanguageModel::head_loss(const at::Tensor& h, const at::Tensor& targets,
                                               const at::Tensor& counts) const {
  const kernels::VocabularyShare share = vocabulary_share();
  if (cluster_count(config_) > 0)
    return adaptive_cross_entropy(config_, h, head().value, clusters(), targets, counts,
                                  placement_.tp == 1 ? nullptr : &share);
  return placement_.tp == 1 ? kernels::linear_cross_entropy(h, head(), targets, counts)
                            : kernels::split_cross_entropy(h, head(), targets, counts, share);
}

at::Tensor LanguageModel::loss_sum(const at::Tensor& tokens, const at::Tensor& seq_idx,
                                   const at::Tensor& mask, at::Tensor* per_target,
                                   const TrainingRows* rows) const {
  const int64_t length = tokens.size(1) - 1;
  DM_CHECK(length >= 1, "a row of {} tokens predicts nothing", tokens.size(1));
  const at::Tensor h = hidden(tokens.narrow(1, 0, length), seq_idx, nullptr, rows).flatten(0, 1);  // [B L, D]
  const at::Tensor targets = tokens.narrow(1, 1, length).reshape(-1);                              // [B L]
  const at::Tensor counts = mask.reshape(-1).to(at::kByte);
  const kernels::CrossEntropy loss = head_loss(h, targets, counts);
  if (per_target) *per_target = loss.per_target.view({tokens.size(0), length});
  return loss.sum;
}

std::vector<DifferenceStats> LanguageModel::difference_stats(const at::Tensor& ids,
                                                             const at::Tensor& seq_idx) const {
  const at::NoGradGuard no_gradients;
  const kernels::Documents documents = this->documents(seq_idx);
  std::vector<DifferenceStats> stats;
  Stream stream = enter(ids);
  for (int64_t i = 0; i < layers(); ++i) {
    if (!kind(i).has_difference()) {
      const auto block = kind(i).bind(layer(i));
      const at::Tensor y = block->forward(all_tokens(stream.u, ids), documents);
      stream = add(i, stream, own_tokens(y), block->output_norm());
      continue;
    }
    const PlainDifference difference = kind(i).plain(layer(i), all_tokens(stream.u, ids), documents);
    stats.push_back(statistics(i, difference));
    // Every tensor rank has the whole output: one of them puts it into the sum.
    const at::Tensor& y = difference.output;
    stream = add(i, stream, own_tokens(placement_.tp_rank == 0 ? y : at::zeros_like(y)), std::nullopt);
  }
  return stats;
}

}  // namespace dm::model
