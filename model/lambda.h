#pragma once
// The forms of the differential weight λ: one class each in lambda.cpp, and no other file tells them apart.

#include <string>
#include <vector>

#include "model/scope.h"

namespace dm::model {

/// 0.8 − 0.6 exp(−0.3 l), l the 0-based layer index.
double lambda_init(int64_t layer);

/// What λ is made for: its layer, and the widths its parameters may take.
struct LambdaPlace {
  int64_t layer;
  int64_t d_model;
  int64_t d_state;
  int64_t heads;           // of one branch
  std::vector<Run> dealt;  // branch 2's heads, or channels without heads, by tensor rank
};

class LambdaForm {
 public:
  virtual ~LambdaForm() = default;
  virtual const char* name() const = 0;

  /// One λ a head, applied to branch 2 before its output projection: Mamba-2 only.
  virtual bool by_head() const { return false; }
  /// The bias b of a form λ = σ(lambda_proj.weight · u + b), read off the block's input u: no λ_init in it,
  /// and no factor (1 − λ_init) after it. Null for the others.
  virtual const char* input_bias() const { return nullptr; }
  bool from_input() const { return input_bias() != nullptr; }

  /// Without a cut, on the tensor ranks that work on branch 2: the only ones to need λ.
  virtual void declare(const LambdaPlace&, const Declare&) const {}
  /// [1] or [H]; from the input [B, L, 1] or [B, L, H], where `projected` = lambda_proj.weight · u (no bias)
  /// [B, L, 1 | H].
  virtual at::Tensor value(const Scope& parameters, int64_t layer, const at::Tensor& projected) const = 0;

  /// The parameter p of a form λ = σ(Σ p) + λ_init, which a kernel for vectors knows; null for the others.
  virtual const char* sigmoid_of_sum() const { return nullptr; }

  /// What the difference is multiplied by: 1 − λ_init, or 1 for the forms from the input.
  double factor(int64_t layer) const { return from_input() ? 1.0 : 1.0 - lambda_init(layer); }
};

const LambdaForm& lambda_form(const std::string& name);  // ExitCode::usage with the known names
/// λ of a differential scan: σ(one scalar) + λ_init, whatever `lambda` says of the D layers.
const LambdaForm& scan_lambda_form();

}  // namespace dm::model
