#pragma once
// Names of parameters: "backbone.layers.3." + "mixer_1." + "in_proj.weight", declared and looked up by the
// same code.

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "kernels/linear/weight.h"
#include "model/cut.h"
#include "model/language_model.h"

namespace dm::model {

class Matrices;

/// The parameters whose names start with a prefix.
class Scope {
 public:
  /// Without `matrices` the parameters themselves are what products take.
  Scope(const Parameters& parameters, std::string prefix, Matrices* matrices = nullptr)
      : parameters_(&parameters), matrices_(matrices), prefix_(std::move(prefix)) {}
  at::Tensor operator[](
      const std::string& name) const;  // a bug (ExitCode::internal) when it was never declared
  /// A matrix for products.
  kernels::Weight matrix(const std::string& name) const { return stacked({name}, 0); }
  /// Several below each other (dim 0) or beside each other (dim 1).
  kernels::Weight stacked(const std::vector<std::string>& names, int64_t dim) const;
  Scope inside(const std::string& name) const { return {*parameters_, prefix_ + name, matrices_}; }
  at::TensorOptions options() const { return parameters_->begin()->second.options(); }

 private:
  const Parameters* parameters_;  // outlives every scope: they live for one call
  Matrices* matrices_;
  std::string prefix_;
};

/// A parameter and how it is dealt out over the tensor axis.
struct DeclaredParameter {
  ParameterInfo info;
  Cut cut;
};
/// All parameters in forward order, cut for `tp` tensor ranks.
std::vector<DeclaredParameter> declared_parameters(const ModelConfig& config, int64_t tp);
/// What a row hands on to the row that goes on where it ends, layer by layer, cut likewise; without the rows.
std::vector<DeclaredParameter> declared_carried(const ModelConfig& config, int64_t tp);

/// Collects the parameters that start with a prefix, in forward order, cut for tp() tensor ranks. Without a
/// cut every rank holds the whole parameter, and has a part of its gradient.
class Declare {
 public:
  explicit Declare(std::vector<DeclaredParameter>& out, int64_t tp = 1, std::string prefix = "")
      : out_(&out), tp_(tp), prefix_(std::move(prefix)) {}
  int64_t tp() const { return tp_; }

  /// A projection, convolution or embedding: takes weight decay.
  void matrix(const std::string& name, std::vector<int64_t> shape, Init init, Cut cut = {}) const {
    parameter(name, std::move(shape), true, init, std::move(cut));
  }
  /// Everything else: biases, norms, A_log, D, dt_bias, lambda.
  void exempt(const std::string& name, std::vector<int64_t> shape, Init init, Cut cut = {}) const {
    parameter(name, std::move(shape), false, init, std::move(cut));
  }
  void parameter(const std::string& name, std::vector<int64_t> shape, bool decay, Init init,
                 Cut cut = {}) const {
    if (cut.ranks.empty()) cut = where_any(units_, shape[0]);
    out_->push_back({{prefix_ + name, std::move(shape), decay, init}, std::move(cut)});
  }
  Declare inside(const std::string& name) const {
    Declare other = *this;
    other.prefix_ += name;
    return other;
  }
  /// Without a cut of their own, parameters are held by the ranks that have any of these units.
  Declare where(std::vector<Run> units) const {
    Declare other = *this;
    other.units_ = std::move(units);
    return other;
  }

 private:
  std::vector<DeclaredParameter>* out_;
  int64_t tp_;
  std::string prefix_;
  std::vector<Run> units_;
};

std::string layer_prefix(int64_t index);  // "backbone.layers.3."

/// Pieces below or beside each other; the piece itself when there is one, so that a single branch copies
/// nothing.
at::Tensor stack(const std::vector<at::Tensor>& pieces, int64_t dim);

}  // namespace dm::model
