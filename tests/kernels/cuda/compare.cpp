#include "tests/kernels/cuda/compare.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdio>
#include <map>

namespace dm::kernels::test {
namespace {

std::map<std::string, double>& largest() {
  static std::map<std::string, double> errors;
  return errors;
}

struct PrintLargest final : testing::Environment {
  void TearDown() override {
    for (const auto& [what, error] : largest()) std::printf("%-48s %.2e\n", what.c_str(), error);
  }
};
const testing::Environment* const kPrintLargest = testing::AddGlobalTestEnvironment(new PrintLargest);

bool floating(const at::Tensor& t) { return t.defined() && t.is_floating_point(); }

Evaluation run(const Function& f, const Tensors& inputs, const Tensors& cotangents,
               const std::vector<bool>& used) {
  Tensors leaves;
  torch::autograd::variable_list wanted, outputs, weights;
  for (const at::Tensor& t : inputs) {
    leaves.push_back(floating(t) ? t.detach().requires_grad_() : t);
    if (floating(t)) wanted.push_back(leaves.back());
  }
  Evaluation result{f(leaves), {}};
  for (size_t i = 0; i < result.outputs.size(); ++i) {
    if (!used.empty() && !used[i]) continue;
    const at::Tensor& output = result.outputs[i];
    outputs.push_back(output);
    weights.push_back(
        (i < cotangents.size() ? cotangents[i] : normal("cotangent" + std::to_string(i), output.sizes()))
            .to(output.options()));
  }
  const auto gradients =
      torch::autograd::grad(outputs, wanted, weights, std::nullopt, false, /*allow_unused=*/true);
  size_t next = 0;
  for (const at::Tensor& t : inputs)
    result.gradients.push_back(floating(t) ? gradients[next++] : at::Tensor());
  for (at::Tensor& t : result.outputs) t = t.detach();
  return result;
}

Evaluation to_cpu(Evaluation e) {
  for (Tensors* list : {&e.outputs, &e.gradients})
    for (at::Tensor& t : *list)
      if (t.defined()) t = t.cpu();
  return e;
}

}  // namespace

at::Tensor rounded(const at::Tensor& value, at::ScalarType dtype) {
  return floating(value) ? value.to(dtype).to(at::kDouble) : value;
}

void expect_gpu_close(const std::string& what, const at::Tensor& got, const at::Tensor& expected,
                      double bar) {
  const double error =
      relative_error(got.defined() ? got.detach().cpu() : got, expected.defined() ? expected.detach() : got);
  EXPECT_LE(error, bar) << what;
  double& worst = largest()[what];
  worst = std::max(worst, error);
}

void expect_gpu_close(const std::string& what, const Function& f, const GpuInputs& inputs, const Bars& bars,
                      const std::vector<bool>& used) {
  Tensors gpu, cpu;
  for (const GpuInput& in : inputs) {
    cpu.push_back(rounded(in.value, in.dtype));
    gpu.push_back(floating(in.value) ? in.value.to(at::kCUDA, in.dtype)
                                     : (in.value.defined() ? in.value.to(at::kCUDA) : in.value));
  }
  Evaluation got, again;
  {
    const Poison poison;
    got = to_cpu(run(f, gpu, {}, used));
    again = to_cpu(run(f, gpu, {}, used));
  }
  expect_same_bits(got, again, what + ", second call");
  Tensors cotangents;
  for (size_t i = 0; i < got.outputs.size(); ++i)
    cotangents.push_back(rounded(normal("cotangent" + std::to_string(i), got.outputs[i].sizes()),
                                 got.outputs[i].scalar_type()));
  const Evaluation expected = run(f, cpu, cotangents, used);
  ASSERT_EQ(got.outputs.size(), expected.outputs.size());
  for (size_t i = 0; i < got.outputs.size(); ++i)
    expect_gpu_close(what + " output " + std::to_string(i), got.outputs[i], expected.outputs[i],
                     bars.outputs);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (expected.gradients[i].defined() || got.gradients[i].defined())
      expect_gpu_close(what + " d" + inputs[i].name, got.gradients[i], expected.gradients[i], bars.gradients);
}

void expect_last_row_alone(const Function& f, const Tensors& inputs) {
  const auto last = [](const at::Tensor& t) { return t.narrow(0, t.size(0) - 1, 1); };
  const auto run_all = [&](const Tensors& from) {
    Tensors leaves;
    for (const at::Tensor& t : from) leaves.push_back(t.detach().requires_grad_());
    const Tensors outputs = f(leaves);
    Tensors results, cotangents;
    for (const at::Tensor& t : outputs) cotangents.push_back(t.detach());
    for (const at::Tensor& t : torch::autograd::grad(outputs, leaves, cotangents))
      results.push_back(last(t).cpu());
    for (const at::Tensor& t : cotangents) results.push_back(last(t).cpu());
    return results;
  };
  Tensors alone;
  for (const at::Tensor& t : inputs) {
    ASSERT_GT(t.numel(), int64_t{1} << 31);
    alone.push_back(last(t).clone());
  }
  const Tensors expected = run_all(alone), got = run_all(inputs);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(same_bits(got[i], expected[i])) << "result " << i;
}

}  // namespace dm::kernels::test
