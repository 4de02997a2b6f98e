#pragma once
// How a parameter's elements are drawn before training: docs/model.md, "Initialisation".

#include <cstdint>

#include "core/rng.h"

namespace dm::model {

/// A distribution of one element; a pure function of the generator (which is keyed by seed and parameter
/// name) and the element's index in the whole row-major parameter, so every slice of every layout draws the
/// same bits.
struct Init {
  enum class Kind { constant, uniform, normal, log_uniform, log_column, step_bias };
  Kind kind = Kind::constant;
  double a = 0;
  double b = 0;

  static Init constant(double value) { return {Kind::constant, value}; }
  /// U(-bound, bound).
  static Init uniform(double bound) { return {Kind::uniform, bound}; }
  /// 1/sqrt(fan_in), divided by `divisor`: the rule of every linear map.
  static Init linear(int64_t fan_in, double divisor = 1);
  static Init normal(double deviation) { return {Kind::normal, deviation}; }
  /// log U(low, high): A_log of Mamba-2.
  static Init log_uniform(double low, double high) { return {Kind::log_uniform, low, high}; }
  /// log(1 + column) of a matrix with `columns` columns: A_log of Mamba-1.
  static Init log_column(int64_t columns) { return {Kind::log_column, static_cast<double>(columns)}; }
  /// The inverse softplus of a step size drawn log-uniformly from [0.001, 0.1], so that softplus(bias) is
  /// that step.
  static Init step_bias() { return {Kind::step_bias}; }

  double operator()(const CounterRng& rng, uint64_t index) const;
};

}  // namespace dm::model
