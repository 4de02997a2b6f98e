#include "model/adaptive_softmax.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"

namespace dm::model {
namespace {

/// This rank's part of a smaller vocabulary: `count` of its words, the first of them word `begin`.
kernels::VocabularyShare part_of(const kernels::VocabularyShare& share, int64_t begin, int64_t count,
                                 int64_t vocabulary) {
  return {begin, count, vocabulary, share.group};
}

kernels::CrossEntropy cross_entropy(const at::Tensor& h, const at::Tensor& weight, const at::Tensor& targets,
                                    const at::Tensor& mask, const kernels::VocabularyShare* share) {
  return share ? kernels::split_cross_entropy(h, weight, targets, mask, *share)
               : kernels::linear_cross_entropy(h, weight, targets, mask);
}

}  // namespace

std::vector<int64_t> vocabulary_parts(const ModelConfig& config) {
  std::vector<int64_t> parts = {0};
  for (const std::string& cutoff : config.cutoffs) parts.push_back(parse_integer(cutoff, "--cutoffs"));
  parts.push_back(config.vocab_size);
  return parts;
}

void validate_cutoffs(const ModelConfig& config) {
  const std::vector<int64_t> parts = vocabulary_parts(config);
  for (size_t i = 1; i < parts.size(); ++i)
    DM_REQUIRE(parts[i] > parts[i - 1], ExitCode::usage,
               "--cutoffs: {} follows {}; they must rise from above 0 to below --vocab-size {}", parts[i],
               parts[i - 1], config.vocab_size);
}

kernels::CrossEntropy adaptive_cross_entropy(const ModelConfig& config, const at::Tensor& h,
                                             const at::Tensor& words, const at::Tensor& clusters,
                                             const at::Tensor& targets, const at::Tensor& mask,
                                             const kernels::VocabularyShare* share) {
  DM_CHECK(h.is_cpu(), "the adaptive softmax on a GPU");
  const std::vector<int64_t> parts = vocabulary_parts(config);
  const int64_t count = cluster_count(config), frequent = parts[1];
  // What of each part this rank has, in rows of `words`; behind them padding.
  const int64_t first = share ? share->begin : 0, held = share ? share->count : config.vocab_size;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i + 1 < parts.size(); ++i)
    sizes.push_back(std::clamp<int64_t>(parts[i + 1] - first, 0, held) -
                    std::clamp<int64_t>(parts[i] - first, 0, held));
  sizes.push_back(words.size(0) - held);
  const std::vector<at::Tensor> rows = words.split_with_sizes(sizes, 0);

  // The clusters come first, so that every rank's logits stand together.
  const at::Tensor head = clusters.defined() ? at::cat({clusters, rows[0]}) : rows[0];
  at::Tensor head_targets = targets + count;
  for (int64_t k = 0; k < count; ++k) {
    const auto i = static_cast<size_t>(k);
    head_targets.masked_fill_(targets.ge(parts[i + 1]).logical_and(targets.lt(parts[i + 2])), k);
  }
  std::optional<kernels::VocabularyShare> head_share;
  if (share)
    head_share = part_of(*share, clusters.defined() ? 0 : count + std::min(first, frequent), head.size(0),
                         count + frequent);
  kernels::CrossEntropy loss =
      cross_entropy(h, head, head_targets, mask, head_share ? &*head_share : nullptr);
  at::Tensor per_target = loss.per_target;

  for (int64_t k = 0; k < count; ++k) {
    const auto i = static_cast<size_t>(k);
    const int64_t begin = parts[i + 1], end = parts[i + 2];
    const at::Tensor inside =
        targets.ge(begin).logical_and(targets.lt(end)).logical_and(mask).nonzero().squeeze(1);
    const at::Tensor tail_targets = targets.index_select(0, inside) - begin;
    std::optional<kernels::VocabularyShare> tail_share;
    if (share) tail_share = part_of(*share, std::max(first, begin) - begin, sizes[i + 1], end - begin);
    const kernels::CrossEntropy tail =
        cross_entropy(h.index_select(0, inside), rows[i + 1], tail_targets,
                      at::ones_like(tail_targets, at::kByte), tail_share ? &*tail_share : nullptr);
    loss.sum = loss.sum + tail.sum;
    per_target = per_target.index_add(0, inside, tail.per_target);
  }
  loss.per_target = per_target;
  return loss;
}

at::Tensor adaptive_log_probabilities(const ModelConfig& config, const at::Tensor& logits) {
  const std::vector<int64_t> parts = vocabulary_parts(config);
  const int64_t count = cluster_count(config), frequent = parts[1];
  const at::Tensor head = at::log_softmax(
      at::cat({logits.narrow(-1, 0, frequent), logits.narrow(-1, config.vocab_size, count)}, -1), -1);
  std::vector<at::Tensor> all = {head.narrow(-1, 0, frequent)};
  for (int64_t k = 0; k < count; ++k) {
    const auto i = static_cast<size_t>(k);
    const at::Tensor within =
        at::log_softmax(logits.narrow(-1, parts[i + 1], parts[i + 2] - parts[i + 1]), -1);
    all.push_back(head.narrow(-1, frequent + k, 1) + within);
  }
  return at::cat(all, -1);
}

}  // namespace dm::model
