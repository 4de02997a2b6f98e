#pragma once
// Names of parameters: "backbone.layers.3." + "mixer_1." + "in_proj.weight", declared and looked up by the
// same code.

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "model/language_model.h"

namespace dm::model {

/// The parameters whose names start with a prefix.
class Scope {
 public:
  Scope(const Parameters& parameters, std::string prefix)
      : parameters_(&parameters), prefix_(std::move(prefix)) {}
  at::Tensor operator[](
      const std::string& name) const;  // a bug (ExitCode::internal) when it was never declared
  Scope inside(const std::string& name) const { return {*parameters_, prefix_ + name}; }
  at::TensorOptions options() const { return parameters_->begin()->second.options(); }

 private:
  const Parameters* parameters_;  // outlives every scope: they live for one call
  std::string prefix_;
};

/// Collects the parameters that start with a prefix, in forward order.
class Declare {
 public:
  explicit Declare(std::vector<ParameterInfo>& out, std::string prefix = "")
      : out_(&out), prefix_(std::move(prefix)) {}

  /// A projection, convolution or embedding: takes weight decay.
  void matrix(const std::string& name, std::vector<int64_t> shape, Init init) const {
    parameter(name, std::move(shape), true, init);
  }
  /// Everything else: biases, norms, A_log, D, dt_bias, lambda.
  void exempt(const std::string& name, std::vector<int64_t> shape, Init init) const {
    parameter(name, std::move(shape), false, init);
  }
  void parameter(const std::string& name, std::vector<int64_t> shape, bool decay, Init init) const {
    out_->push_back({prefix_ + name, std::move(shape), decay, init});
  }
  Declare inside(const std::string& name) const { return Declare(*out_, prefix_ + name); }

 private:
  std::vector<ParameterInfo>* out_;
  std::string prefix_;
};

std::string layer_prefix(int64_t index);  // "backbone.layers.3."

}  // namespace dm::model
