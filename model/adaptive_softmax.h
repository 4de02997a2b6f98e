#pragma once
// The adaptive softmax (Grave et al., arXiv 1609.04309), all words of the residual stream's width: frequent
// words and one logit a cluster of rarer ones share a softmax, and a word of a cluster has
//
//   log p(word) = log p(cluster) + log p(word within the cluster)
//
// so that a cluster's logits are computed for the tokens alone whose target is in it. Words are numbered by
// falling frequency; `cutoffs` say where the clusters begin.

#include <cstdint>
#include <vector>

#include "kernels/cross_entropy/split_cross_entropy.h"
#include "model/config.h"

namespace dm::model {

/// The parameter [clusters, D].
inline constexpr const char* kClusterWeight = "head.clusters.weight";

/// Where each part of the vocabulary begins, and V: 0, the cutoffs, V. {0, V} for the plain softmax.
std::vector<int64_t> vocabulary_parts(const ModelConfig& config);
inline int64_t cluster_count(const ModelConfig& config) {
  return static_cast<int64_t>(config.cutoffs.size());
}
/// Refuses cutoffs that do not rise below V (ExitCode::usage).
void validate_cutoffs(const ModelConfig& config);

/// As kernels::linear_cross_entropy(), or split_cross_entropy() where there is a `share`: h [T, D], words [V,
/// D] or the rank's rows of it, clusters [clusters, D] (on the first tensor rank; undefined on the others).
/// On the CPU.
kernels::CrossEntropy adaptive_cross_entropy(const ModelConfig& config, const at::Tensor& h,
                                             const at::Tensor& words, const at::Tensor& clusters,
                                             const at::Tensor& targets, const at::Tensor& mask,
                                             const kernels::VocabularyShare* share);

/// logits [.., V + clusters], the words' and behind them the clusters' -> log p [.., V].
at::Tensor adaptive_log_probabilities(const ModelConfig& config, const at::Tensor& logits);

}  // namespace dm::model
