#include "tests/model/layouts.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/comm/transport.h"
#include "model/local_parameters.h"
#include "tests/support/mpi_environment.h"

namespace dm::model {
namespace {

constexpr int64_t kBatch = 2, kLength = 13;  // tokens that divide by no number of ranks

std::vector<Layout> make_layouts() {
  std::vector<Layout> all;
  const int64_t world = test::mpi().world(), rank = test::mpi().rank();
  for (int64_t tp = 1; tp <= world; ++tp) {
    if (world % tp != 0) continue;
    Layout layout{fmt::format("tp{} cp{}", tp, world / tp), {tp, rank % tp, world / tp, rank / tp}, {}, {}};
    layout.tensor = test::mpi().make_group(rank / tp);
    layout.context = test::mpi().make_group(rank % tp);
    layout.placement.tensor = layout.tensor.get();
    layout.placement.context = layout.context.get();
    all.push_back(std::move(layout));
  }
  return all;
}

Trace trace_of(const LanguageModel& model, const at::Tensor& ids, const at::Tensor& seq_idx) {
  Trace trace;
  LanguageModel::Taps taps;
  for (int64_t layer = -1; layer < model.layers(); ++layer) taps.layers.push_back(layer);
  taps.visit = [&](int64_t, const at::Tensor& h) { trace.hidden.push_back(h.detach().clone()); };
  trace.logits = model.logits(ids, seq_idx, &taps).detach();
  return trace;
}

}  // namespace

TokenRange Layout::piece(int64_t length) const {
  return context_piece(length, placement.cp, placement.cp_rank);
}

at::Tensor Layout::own(const at::Tensor& rows) const {
  const TokenRange range = piece(rows.size(1));
  return rows.narrow(1, range.begin, range.count());
}

const std::vector<Layout>& layouts() {
  // Never destroyed: its communicators would outlive MPI.
  static const auto* const all = new std::vector<Layout>(make_layouts());
  return *all;
}

std::vector<NamedConfig> layout_configs() {
  std::vector<NamedConfig> all;
  const auto add = [&](const std::string& name, const std::string& pattern, const std::string& mixer,
                       const std::string& lambda, const auto& change) {
    ModelConfig c = small_config(pattern, mixer, lambda);
    c.d_model = 48, c.vocab_size = 300, c.head_dim = c.head_dim_plain = 4;
    change(c);
    validate(c);
    all.push_back({name, c});
  };
  const auto as_it_is = [](ModelConfig&) {};
  for (const std::string& lambda : lambda_form_names())
    add("diffmamba2 " + lambda, "DD", "mamba2", lambda, as_it_is);
  add("diffmamba2 G 2", "DD", "mamba2", "sigmoid_sum", [](ModelConfig& c) { c.n_groups = 2; });
  add("diffmamba2 G 2 by group, no subln", "DD", "mamba2", "head",
      [](ModelConfig& c) { c.n_groups = 2, c.norm_group = "group", c.subln = false, c.tied = false; });
  add("diffmamba2 G 12 by group", "D", "mamba2", "scalar",
      [](ModelConfig& c) { c.n_groups = 12, c.norm_group = "group"; });
  add("mamba2", "MM", "mamba2", "sigmoid_sum", as_it_is);
  add("mamba2 G 4", "MM", "mamba2", "sigmoid_sum", [](ModelConfig& c) { c.n_groups = 4, c.tied = false; });
  add("mamba2 G 4 by group", "M", "mamba2", "sigmoid_sum",
      [](ModelConfig& c) { c.n_groups = 4, c.norm_group = "group"; });
  for (const char* lambda : {"sigmoid_sum", "exp_diff", "token"})
    add(std::string("diffmamba1 ") + lambda, "DD", "mamba1", lambda, as_it_is);
  add("diffmamba1 no subln", "DD", "mamba1", "scalar", [](ModelConfig& c) { c.subln = false; });
  add("mamba1", "MM", "mamba1", "sigmoid_sum", as_it_is);
  add("diffs6 mamba2", "SS", "mamba2", "sigmoid_sum", [](ModelConfig& c) { c.n_groups = 2; });
  add("diffs6 mamba2 by group, no subln", "SS", "mamba2", "sigmoid_sum",
      [](ModelConfig& c) { c.n_groups = 2, c.norm_group = "group", c.subln = false; });
  add("diffs6 mamba1", "SS", "mamba1", "sigmoid_sum", [](ModelConfig& c) { c.tied = false; });
  add("diffs6 mamba1 no subln", "S", "mamba1", "sigmoid_sum", [](ModelConfig& c) { c.subln = false; });
  add("(DDF) post LayerNorm", "(DDF)*2", "mamba2", "sigmoid_sum",
      [](ModelConfig& c) { c.norm = "layer", c.block_norm = "post", c.tied = false; });
  add("dropout", "DSF", "mamba2", "sigmoid_sum",
      [](ModelConfig& c) { c.dropout = 0.5, c.embedding_dropout = c.head_dropout = 0.25; });
  add("dropout, post LayerNorm", "DMF", "mamba2", "sigmoid_sum", [](ModelConfig& c) {
    c.norm = "layer", c.block_norm = "post", c.recompute = "block";
    c.dropout = 0.5, c.embedding_dropout = c.head_dropout = 0.25;
  });
  // Clusters of several ranks; frequent words of several ranks.
  add("adaptive softmax", "DM", "mamba2", "sigmoid_sum", [](ModelConfig& c) {
    c.cutoffs = {"20", "64", "170"};
  });
  add("adaptive softmax, many frequent words", "DM", "mamba2", "sigmoid_sum", [](ModelConfig& c) {
    c.cutoffs = {"200", "230", "260"}, c.tied = false;
  });
  add("DMSF unpacked", "DMSF", "mamba2", "token_head", [](ModelConfig& c) { c.packed = false; });
  add("DMS mamba1 unpacked", "DMS", "mamba1", "scalar", [](ModelConfig& c) { c.packed = false; });
  add("DM unpacked, W 1", "DM", "mamba2", "scalar", [](ModelConfig& c) { c.packed = false, c.d_conv = 1; });
  return all;
}

OneRank::OneRank(const ModelConfig& c)
    : config(c),
      parameters(random_parameters(c, at::kDouble)),
      tokens(random_ids(kBatch, kLength + 1, c.vocab_size, 7)),
      seq_idx(documents(kBatch, kLength)),
      mask(random_ids(kBatch, kLength, 4, 8).gt(0).to(at::kByte)) {
  const LanguageModel::TrainingRows rows = training_rows(kBatch);
  const LanguageModel model(config, parameters);  // layers that are made again read it in the backward pass
  loss = model.loss_sum(tokens, seq_idx, mask, &per_target, &rows);
  loss.backward();
}

Trace OneRank::trace() const {
  return trace_of(LanguageModel(config, parameters), tokens.narrow(1, 0, kLength), seq_idx);
}

Placed::Placed(const OneRank& truth, const Layout& layout) : truth_(truth), layout_(layout) {
  const std::vector<LocalParameter> locals = local_parameters(truth.config, layout.placement);
  std::map<std::string, at::Tensor> mine;
  for (const LocalParameter& local : locals) {
    const at::Tensor whole = truth.parameters.at(local.info.name).detach();
    at::Tensor leaf = local_part(local, whole).set_requires_grad(true);
    leaf.mutable_grad() = mine[local.info.name] = at::zeros_like(leaf);
    leaves_.emplace(local.info.name, leaf);
  }
  model_ = std::make_unique<LanguageModel>(truth.config, leaves_, std::nullopt, layout.placement);
  const TokenRange piece = layout.piece(kLength);
  const at::Tensor tokens = truth.tokens.narrow(1, piece.begin, piece.count() + 1);
  at::Tensor per_target;
  const LanguageModel::TrainingRows rows = training_rows(kBatch, piece.begin);
  at::Tensor loss =
      model_->loss_sum(tokens, layout.own(truth.seq_idx), layout.own(truth.mask), &per_target, &rows);
  loss.backward();
  SharedGradients(truth.config, layout.placement).sum(mine);

  // Whole again: each element once, from the rank where it counts, over the tensor and then the context axis.
  loss_ = loss.detach().clone().reshape({1});
  kernels::all_reduce(loss_, *layout.context);
  loss_ = loss_.reshape({});
  per_target_ = at::zeros_like(truth.per_target);
  per_target_.narrow(1, piece.begin, piece.count()).copy_(per_target);
  kernels::all_reduce(per_target_, *layout.context);
  for (const auto& [name, parameter] : truth.parameters)
    gradients_[name] = at::zeros_like(parameter.detach());
  for (LocalParameter local : locals) {
    std::erase_if(local.pieces, [](const ParameterPiece& piece) { return !piece.counted; });
    copy_to_whole(local, mine.at(local.info.name), gradients_.at(local.info.name));
  }
  for (const auto& [name, gradient] : gradients_) kernels::all_reduce(gradient, *layout.tensor);
  for (const LocalParameter& local : locals)
    if (!same_bits(local_part(local, gradients_.at(local.info.name)), mine.at(local.info.name)))
      inconsistent_.push_back(local.info.name);
  for (const auto& [name, gradient] : gradients_) kernels::all_reduce(gradient, *layout.context);
}

std::vector<std::string> Placed::wrong_gradients() const {
  // The same sums in another order, in float64: a few hundred roundings of 1e-16 each, grown by cancellation.
  constexpr double kTolerance = 1e-11;
  std::vector<std::string> wrong = inconsistent_;
  for (const auto& [name, gradient] : gradients_) {
    const at::Tensor& truth = truth_.parameters.at(name).grad();
    const bool right = truth.defined() &&
                       (gradient - truth).norm().item<double>() <= kTolerance * truth.norm().item<double>();
    if (!right) wrong.push_back(name);
  }
  return wrong;
}

Trace Placed::trace() const {
  return trace_of(*model_, layout_.own(truth_.tokens.narrow(1, 0, kLength)), layout_.own(truth_.seq_idx));
}

}  // namespace dm::model
