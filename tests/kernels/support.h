#pragma once
// What the tests of the operations share: seeded inputs, comparisons that NaN fails, gradients by autograd
// and by finite differences, poisoned memory, every level.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/simd/level.h"

namespace dm::kernels::test {

using Tensors = std::vector<at::Tensor>;

/// Normal draws, the same for a name and shape on every machine.
at::Tensor normal(const std::string& name, at::IntArrayRef shape, at::ScalarType dtype = at::kDouble);
/// Uniform draws in [low, high).
at::Tensor uniform(const std::string& name, at::IntArrayRef shape, double low, double high,
                   at::ScalarType dtype = at::kDouble);
/// seq_idx [rows, length] int32; row b has the documents of the lengths given, the last one filling the row.
at::Tensor documents(const std::vector<std::vector<int64_t>>& lengths, int64_t length);

/// |a - b| / |b| over whole tensors, in float64; infinite if shapes or finiteness differ.
double relative_error(const at::Tensor& a, const at::Tensor& b);
/// Same shape, dtype and bits.
bool same_bits(const at::Tensor& a, const at::Tensor& b);

/// f's outputs, and the gradients of Σ_i <outputs_i, w_i> (w_i normal draws) in every defined floating input.
struct Evaluation {
  Tensors outputs;
  Tensors gradients;  // undefined where the input is not floating
};
using Function = std::function<Tensors(const Tensors&)>;
Evaluation evaluate(const Function& f, const Tensors& inputs);

/// Every output and gradient of `f` within `tolerance` (relative_error) of those of `truth` at the same
/// inputs in float64. `names` name the inputs in messages.
void expect_close(const Function& f, const Function& truth, const Tensors& inputs, double tolerance,
                  const std::vector<std::string>& names);
/// The gradients of `f` agree with central differences along random directions, in float64.
void expect_gradients_match_differences(const Function& f, const Tensors& inputs,
                                        const std::vector<std::string>& names);
/// Outputs and gradients of two evaluations, bit for bit.
void expect_same_bits(const Evaluation& a, const Evaluation& b, const std::string& what);
/// The same bits on a second call and on 1, 2, 3 and 5 threads.
void expect_repeatable(const Function& f, const Tensors& inputs);

/// Levels this processor has.
std::vector<CpuLevel> levels();
/// Sets a level, and the one before again at the end.
class WithLevel {
 public:
  explicit WithLevel(CpuLevel level) : before_(cpu_level()) { set_cpu_level(level); }
  ~WithLevel() { set_cpu_level(before_); }

 private:
  CpuLevel before_;
};

/// While it lives, new tensors (at::empty) and scratch memory are filled with NaN.
class Poison {
 public:
  Poison();
  ~Poison();
};

/// The message of the Error that `f` throws; fails the test if it throws none.
std::string refusal(const std::function<void()>& f);

}  // namespace dm::kernels::test
