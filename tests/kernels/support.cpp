#include "tests/kernels/support.h"

#include <ATen/Context.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/simd/scratch.h"

namespace dm::kernels::test {
namespace {

constexpr uint64_t kSeed = 20250711;

template <class Draw>
at::Tensor drawn(at::IntArrayRef shape, at::ScalarType dtype, const Draw& draw) {
  const at::Tensor tensor = at::empty(shape, at::kDouble);
  double* values = tensor.data_ptr<double>();
  for (int64_t i = 0; i < tensor.numel(); ++i) values[i] = draw(static_cast<uint64_t>(i));
  return tensor.to(dtype);
}

bool floating(const at::Tensor& tensor) { return tensor.defined() && tensor.is_floating_point(); }

at::Tensor to_double(const at::Tensor& t) { return floating(t) ? t.to(at::kDouble) : t; }

/// The leaves that f is called with: the same strides, fresh autograd history.
Tensors leaves(const Tensors& inputs) {
  Tensors result;
  for (const at::Tensor& t : inputs) result.push_back(floating(t) ? t.detach().requires_grad_() : t);
  return result;
}

at::Tensor weighted_sum(const Tensors& outputs) {
  at::Tensor sum;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!floating(outputs[i]) || !outputs[i].requires_grad()) continue;
    const at::Tensor weight =
        normal("cotangent" + std::to_string(i), outputs[i].sizes(), outputs[i].scalar_type());
    const at::Tensor term = (outputs[i] * weight).sum();
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

}  // namespace

at::Tensor normal(const std::string& name, at::IntArrayRef shape, at::ScalarType dtype) {
  const CounterRng rng(kSeed, name);
  return drawn(shape, dtype, [&](uint64_t i) { return rng.normal(i); });
}

at::Tensor uniform(const std::string& name, at::IntArrayRef shape, double low, double high,
                   at::ScalarType dtype) {
  const CounterRng rng(kSeed, name);
  return drawn(shape, dtype, [&](uint64_t i) { return rng.uniform(i, low, high); });
}

at::Tensor documents(const std::vector<std::vector<int64_t>>& lengths, int64_t length) {
  at::Tensor ids = at::empty({static_cast<int64_t>(lengths.size()), length}, at::kInt);
  for (size_t row = 0; row < lengths.size(); ++row) {
    int32_t* id = ids.data_ptr<int32_t>() + static_cast<int64_t>(row) * length;
    int64_t t = 0;
    for (size_t document = 0; document <= lengths[row].size(); ++document) {
      const int64_t end =
          document < lengths[row].size() ? std::min(length, t + lengths[row][document]) : length;
      for (; t < end; ++t) id[t] = static_cast<int32_t>(document);
    }
  }
  return ids;
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  const double error = (to_double(a) - to_double(b)).norm().item<double>(),
               size = to_double(b).norm().item<double>();
  const double relative = size > 0 ? error / size : error;
  return relative == relative ? relative : std::numeric_limits<double>::infinity();
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

Evaluation evaluate(const Function& f, const Tensors& inputs) {
  const Tensors leaf = leaves(inputs);
  Evaluation result{f(leaf), {}};
  torch::autograd::variable_list wanted;
  for (const at::Tensor& t : leaf)
    if (floating(t)) wanted.push_back(t);
  const auto gradients = torch::autograd::grad({weighted_sum(result.outputs)}, wanted, {}, std::nullopt,
                                               false, /*allow_unused=*/true);
  size_t next = 0;
  for (const at::Tensor& t : leaf) result.gradients.push_back(floating(t) ? gradients[next++] : at::Tensor());
  for (at::Tensor& t : result.outputs) t = t.detach();
  return result;
}

void expect_close(const Function& f, const Function& truth, const Tensors& inputs, double tolerance,
                  const std::vector<std::string>& names) {
  Tensors exact;
  for (const at::Tensor& t : inputs) exact.push_back(to_double(t));
  const Evaluation got = evaluate(f, inputs), expected = evaluate(truth, exact);
  ASSERT_EQ(got.outputs.size(), expected.outputs.size());
  for (size_t i = 0; i < got.outputs.size(); ++i)
    EXPECT_LE(relative_error(got.outputs[i], expected.outputs[i]), tolerance) << "output " << i;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!floating(inputs[i])) continue;
    EXPECT_LE(relative_error(got.gradients[i], expected.gradients[i]), tolerance)
        << "gradient of " << names[i];
  }
}

void expect_gradients_match_differences(const Function& f, const Tensors& inputs,
                                        const std::vector<std::string>& names) {
  const Evaluation at_point = evaluate(f, inputs);
  const auto loss = [&](const Tensors& point) { return weighted_sum(f(leaves(point))).item<double>(); };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!floating(inputs[i])) continue;
    const at::Tensor direction = normal("direction" + std::to_string(i), inputs[i].sizes());
    // Error of the fourth-order formula: step^4 in truncation, 1e-16 / step in rounding; both near 1e-12 of
    // the loss at 1e-3.
    const double step = 1e-3;
    const auto along = [&](double distance) {
      Tensors moved = inputs;
      moved[i] = inputs[i] + distance * direction;
      return loss(moved);
    };
    const double slope =
        (8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step);
    const double expected = (at_point.gradients[i] * direction).sum().item<double>();
    const double scale = at_point.gradients[i].norm().item<double>() * direction.norm().item<double>();
    EXPECT_LE(std::abs(slope - expected), 1e-7 * scale)
        << "gradient of " << names[i] << " along a direction: " << expected << ", by differences " << slope;
  }
}

void expect_same_bits(const Evaluation& a, const Evaluation& b, const std::string& what) {
  ASSERT_EQ(a.outputs.size(), b.outputs.size());
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (size_t i = 0; i < a.outputs.size(); ++i)
    EXPECT_TRUE(same_bits(a.outputs[i], b.outputs[i])) << what << ": output " << i;
  for (size_t i = 0; i < a.gradients.size(); ++i)
    EXPECT_TRUE(same_bits(a.gradients[i], b.gradients[i])) << what << ": gradient of input " << i;
}

void expect_repeatable(const Function& f, const Tensors& inputs) {
  const int64_t before = threads();
  const Evaluation first = evaluate(f, inputs);
  expect_same_bits(first, evaluate(f, inputs), "second call");
  for (const int64_t count : {1, 2, 3, 5}) {
    set_threads(count);
    expect_same_bits(first, evaluate(f, inputs), std::to_string(count) + " threads");
  }
  set_threads(before);
}

std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> available;
  for (const CpuLevel level : {CpuLevel::baseline, CpuLevel::v3, CpuLevel::v4})
    if (level <= best_cpu_level()) available.push_back(level);
  return available;
}

Poison::Poison() {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(true);
  poison_scratch(true);
}
Poison::~Poison() {
  at::globalContext().setDeterministicAlgorithms(false, false);
  poison_scratch(false);
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace dm::kernels::test
