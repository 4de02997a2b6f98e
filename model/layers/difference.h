#pragma once
// What the two letters with a difference share: how −λ and (1 − λ_init) enter the one pass over both
// branches.

#include <optional>

#include "kernels/token_lambda/token_lambda.h"
#include "model/lambda.h"
#include "model/layers/layer.h"

namespace dm::model {

/// y = factor · subln(n_1 − λ n_2), or factor · (n_1 − λ n_2) without subln, for n_i linear in each branch's
/// gated norm. The branches' sections of that norm are scaled by 1 and −λ, so that a sum makes the
/// difference. The factor 1 − λ_init folds into the subln weight, or into the sections when there is none.
class Difference {
 public:
  /// `parameters` holds lambda_* and, when the model has it, subln.weight. `part` says which branches there
  /// are to scale: λ is of the rank's heads, and only where it has branch 2.
  Difference(const ModelConfig& config, const LambdaForm& form, int64_t layer, const Scope& parameters,
             const MixerPart& part);

  at::Tensor lambda(const at::Tensor& projected) const { return form_.value(parameters_, layer_, projected); }
  /// Factors of the sections of the rank's branches, for a form that is not read off the input: for λ [n] of
  /// both [2n]. None where all are 1.
  std::optional<at::Tensor> sections() const;
  /// For one that is: from [.., width + n], the branches' columns and λ's, the factors of every token.
  kernels::TokenLambda split(const at::Tensor& projected, int64_t width) const;
  /// Weight of the RMSNorm that turns the sum of the scaled branches into y; none without subln.
  std::optional<at::Tensor> norm_weight() const { return norm_weight_; }
  /// The sum of the scaled branches -> y. [.., width], or a rank's channels of it where there are several.
  at::Tensor normalised(const at::Tensor& sum, int64_t width) const;

  /// By the formula, from unscaled branches. λ [.., 1], or already expanded to the channels. Of a rank's
  /// channels only where `width`, of all ranks together, is given.
  at::Tensor plain(const at::Tensor& n_1, const at::Tensor& n_2, const at::Tensor& lambda,
                   std::optional<int64_t> width = std::nullopt) const;

 private:
  const LambdaForm& form_;
  int64_t layer_;
  Scope parameters_;
  double eps_;
  double factor_;
  bool first_, second_;  // the branches that the rank has any of
  Collectives* tensor_;
  std::optional<at::Tensor> subln_;        // weight [width]
  std::optional<at::Tensor> norm_weight_;  // (1 − λ_init) of it
  std::optional<at::Tensor> sections_;     // where one kernel makes them with the weight
};

}  // namespace dm::model
