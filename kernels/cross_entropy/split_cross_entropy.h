#pragma once
// linear_cross_entropy() with the vocabulary dealt out over the ranks of a group: each has some rows of the
// weight and their logits, of which only the maximum, the sum of exponentials and the target's travel.

#include "core/collectives.h"
#include "kernels/cross_entropy/cross_entropy.h"

namespace dm::kernels {

/// This rank's words: the first `count` rows of its weight are the words from `begin` on, rows after them are
/// padding.
struct VocabularyShare {
  int64_t begin, count;
  int64_t vocabulary;  // V, on all ranks together
  Collectives* group;
};

/// h [T, D], targets and mask as linear_cross_entropy() takes them, the same on every rank; weight [rows, D],
/// the same number of rows on every rank. The sum and per_target are those of the whole vocabulary, the same
/// bits on every rank. The gradient of the weight's rows is whole; that of h is this rank's part of a sum.
/// Otherwise as linear_cross_entropy(); besides, sums of exponentials are in h's dtype and, on a GPU, logits
/// are held in float32. Exchanges by all_gather 3 values a token, in the type of `sum`.
CrossEntropy split_cross_entropy(const at::Tensor& h, const Weight& weight, const at::Tensor& targets,
                                 const at::Tensor& mask, const VocabularyShare& share);

}  // namespace dm::kernels
