// The Mamba-1 mixer as one operation, against its operations one by one in float64.

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "kernels/comm/along_rows.h"
#include "kernels/linear/linear.h"
#include "kernels/selective_mixer/selective_mixer.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

SelectiveMixerForm form(int64_t branches, int64_t inner, int64_t rank, int64_t states, bool limits = false) {
  return {branches,
          inner,
          rank,
          states,
          limits ? 0.05 : 0,
          limits ? 0.4 : std::numeric_limits<double>::infinity()};
}

std::string name_of(const SelectiveMixerForm& f, at::ScalarType dtype) {
  return fmt::format("{} branches {} E {} R {} N {}{}", short_name(dtype), f.branches, f.inner, f.step_rank,
                     f.d_state, f.dt_min > 0 ? ", limits" : "");
}

/// x_proj of every branch, then dt_proj.
Tensors matrices(const SelectiveMixerForm& f) {
  Tensors all;
  for (int64_t i = 0; i < f.branches; ++i)
    all.push_back(normal(fmt::format("x_proj{}", i), {f.step_rank + 2 * f.d_state, f.inner}) /
                  std::sqrt(static_cast<double>(f.inner)));
  for (int64_t i = 0; i < f.branches; ++i)
    all.push_back(normal(fmt::format("dt_proj{}", i), {f.inner, f.step_rank}) /
                  std::sqrt(static_cast<double>(f.step_rank)));
  return all;
}

GpuInputs inputs(const SelectiveMixerForm& f, int64_t rows, int64_t length, bool by_token,
                 at::ScalarType dtype) {
  const int64_t e = f.branches * f.inner;
  return {{"projected", normal("projected", {rows, length, 2 * e}), dtype},
          {"conv_weight", normal("conv_weight", {e, 4}) * 0.5, at::kFloat},
          {"conv_bias", normal("conv_bias", {e}) * 0.5, at::kFloat},
          {"dt_bias", uniform("dt_bias", {e}, -4, -1), at::kFloat},
          {"a", -uniform("a", {e, f.d_state}, 1, 16), at::kFloat},
          {"d", normal("d", {e}) * 0.1 + 1, at::kFloat},
          {"scale", by_token ? normal("scale", {rows, length, f.branches}) : normal("scale", {f.branches}),
           at::kFloat}};
}

SelectiveMixerWeights weights(const SelectiveMixerForm& f, const Tensors& t, const Tensors& m) {
  SelectiveMixerWeights w{t[1], t[2], t[3], t[4], t[5], {}, {}};
  for (int64_t i = 0; i < f.branches; ++i) {
    w.x_proj.emplace_back(m[static_cast<size_t>(i)]);
    w.dt_proj.emplace_back(m[static_cast<size_t>(f.branches + i)]);
  }
  return w;
}

/// As the formula has it, a branch after the other.
at::Tensor composed(const SelectiveMixerForm& f, const Tensors& t, const Tensors& m,
                    const Documents& documents, const SelectiveMixerReach& reach = {}) {
  Tensors outs, windows, states;
  const int64_t length = t[0].size(1);
  for (int64_t i = 0; i < f.branches; ++i) {
    const auto of_branch = [&](const at::Tensor& vector) { return vector.narrow(0, i * f.inner, f.inner); };
    const auto entering = [&](at::Tensor SelectiveMixerState::*what,
                              int64_t dim) -> std::optional<at::Tensor> {
      if (reach.entering) return (reach.entering->*what).narrow(dim, i * f.inner, f.inner);
      return std::nullopt;
    };
    const at::Tensor columns = t[0].narrow(2, 2 * i * f.inner, 2 * f.inner);
    const at::Tensor x = conv_along_rows(columns.narrow(2, 0, f.inner), of_branch(t[1]), of_branch(t[2]),
                                         documents, entering(&SelectiveMixerState::window, 2));
    const auto low = kernels::linear(x, m[static_cast<size_t>(i)])
                         .split_with_sizes({f.step_rank, f.d_state, f.d_state}, -1);
    const at::Tensor steps =
        at::softplus(kernels::linear(low[0], m[static_cast<size_t>(f.branches + i)]) + of_branch(t[3]))
            .clamp(f.dt_min, f.dt_max);
    const ScanOutput scan =
        selective_scans_along_rows({{x, steps, of_branch(t[4]), low[1], low[2], of_branch(t[5]),
                                     entering(&SelectiveMixerState::state, 1)}},
                                   documents)
            .front();
    outs.push_back(scan.y * at::silu(columns.narrow(2, f.inner, f.inner)) * t[6].narrow(-1, i, 1));
    windows.push_back(columns.narrow(2, 0, f.inner).slice(1, std::max<int64_t>(length - 3, 0)).detach());
    states.push_back(scan.final_state.detach());
  }
  if (reach.leaving) *reach.leaving = {at::cat(windows, 2), at::cat(states, 1)};
  return at::cat(outs, -1);
}

Tensors moved(const Tensors& tensors, at::ScalarType dtype, bool gpu) {
  Tensors result;
  for (const at::Tensor& t : tensors) result.push_back(gpu ? t.to(at::kCUDA, dtype) : rounded(t, dtype));
  return result;
}

// In bfloat16 x, δ | B | C, the argument of softplus, y and the output are rounded one after the other, 2^-9
// each, and gradients on the same way back.
constexpr Bars kBf16{8e-3, 2.5e-2}, kFp32{1e-5, 2e-5};

TEST(SelectiveMixerCuda, EqualsItsOperationsOneByOne) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const SelectiveMixerForm& f : {form(2, 64, 8, 16), form(1, 40, 3, 5), form(2, 128, 16, 64),
                                        form(2, 64, 8, 16, true), form(1, 72, 8, 128)})
      for (const int64_t length : {1, 33, 200})
        for (const bool by_token : {false, true}) {
          // In bfloat16 a step size beside a limit falls on either side of it, and a single factor's gradient
          // is one sum of terms that cancel.
          if (dtype == at::kBFloat16 && (f.dt_min > 0 || (f.branches == 1 && !by_token))) continue;
          SCOPED_TRACE(name_of(f, dtype) + fmt::format(" L {}", length));
          const at::Tensor seq_idx = documents({{length / 2 + 1}, {length}}, length);
          const Tensors on_gpu = moved(matrices(f), dtype, true), on_cpu = moved(matrices(f), dtype, false);
          expect_gpu_close(
              fmt::format("selective_mixer {}", short_name(dtype)),
              [&](const Tensors& t) -> Tensors {
                if (t[0].is_cuda())
                  return {selective_mixer(t[0], weights(f, t, on_gpu), t[6], seq_idx.to(at::kCUDA), f)};
                return {composed(f, t, on_cpu, seq_idx)};
              },
              inputs(f, 2, length, by_token, dtype), dtype == at::kFloat ? kFp32 : kBf16);
        }
}

TEST(SelectiveMixerCuda, LongRowsAreCutIntoSegments) {
  const SelectiveMixerForm f = form(2, 64, 8, 16);
  const at::Tensor seq_idx = documents({{300, 212, 1, 900}}, 1600);
  const Tensors on_gpu = moved(matrices(f), at::kFloat, true), on_cpu = moved(matrices(f), at::kFloat, false);
  expect_gpu_close(
      "selective_mixer fp32, segments",
      [&](const Tensors& t) -> Tensors {
        if (t[0].is_cuda())
          return {selective_mixer(t[0], weights(f, t, on_gpu), t[6], seq_idx.to(at::kCUDA), f)};
        return {composed(f, t, on_cpu, seq_idx)};
      },
      inputs(f, 1, 1600, false, at::kFloat), kFp32);
}

// The second part goes on with what the first one ends in, across a border of documents in row 0.
TEST(SelectiveMixerCuda, RowsThatGoOnEqualTheOperations) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const auto& [f, length, cut] : {std::tuple(form(2, 64, 8, 16), int64_t{130}, int64_t{65}),
                                         {form(1, 40, 3, 5), 67, 64},
                                         {form(2, 64, 8, 16), 1600, 3}}) {
      SCOPED_TRACE(name_of(f, dtype) + fmt::format(" L {} cut at {}", length, cut));
      const at::Tensor seq_idx = documents({{cut}, {length}}, length);
      const Tensors on_gpu = moved(matrices(f), dtype, true), on_cpu = moved(matrices(f), dtype, false);
      expect_gpu_close(
          fmt::format("selective_mixer in parts {}", short_name(dtype)),
          [&, f = f, length = length, cut = cut](const Tensors& t) -> Tensors {
            const auto mix = [&](int64_t begin, int64_t end, const SelectiveMixerReach& reach) {
              Tensors part = t;
              part[0] = t[0].slice(1, begin, end);
              part[6] = t[6].slice(1, begin, end);
              Documents ids(seq_idx.slice(1, begin, end).to(t[0].device()));
              if (begin > 0) ids.before = seq_idx.slice(1, begin - 3, begin).to(t[0].device());
              return t[0].is_cuda()
                         ? selective_mixer(part[0], weights(f, part, on_gpu), part[6], ids, f, reach)
                         : composed(f, part, on_cpu, ids, reach);
            };
            SelectiveMixerState carried, last;
            const at::Tensor first = mix(0, cut, {.leaving = &carried});
            const at::Tensor second = mix(cut, length, {.entering = &carried, .leaving = &last});
            return {first, second, last.window, last.state};
          },
          inputs(f, 2, length, true, dtype), dtype == at::kFloat ? kFp32 : kBf16, {true, true, false, false});
    }
}

TEST(SelectiveMixerCuda, MatricesGetTheirGradients) {
  const SelectiveMixerForm f = form(2, 64, 8, 16);
  const at::Tensor seq_idx = documents({{40}, {}}, 130);
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    Tensors gpu, cpu, exact = moved(matrices(f), dtype, false);
    for (const GpuInput& in : inputs(f, 2, 130, false, dtype)) {
      gpu.push_back(in.value.to(at::kCUDA, in.dtype).requires_grad_());
      cpu.push_back(rounded(in.value, in.dtype));
    }
    for (at::Tensor& t : exact) t.requires_grad_();
    const at::Tensor dout = normal("dout", {2, 130, 128});
    SelectiveMixerWeights w = weights(f, gpu, moved(matrices(f), dtype, true));
    for (std::vector<Weight>* all : {&w.x_proj, &w.dt_proj})
      for (Weight& weight : *all)
        weight.parts.push_back({at::ones_like(weight.value, at::dtype(at::kFloat)), 0, 0});
    torch::autograd::backward({selective_mixer(gpu[0], w, gpu[6], seq_idx.to(at::kCUDA), f)},
                              {dout.to(at::kCUDA, dtype)});
    const Tensors expected =
        torch::autograd::grad({composed(f, cpu, exact, seq_idx)}, exact, {rounded(dout, dtype)});
    for (size_t i = 0; i < 2; ++i) {
      const double bar = dtype == at::kFloat ? 2e-5 : 2.5e-2;
      expect_gpu_close(fmt::format("selective_mixer {} dx_proj", short_name(dtype)),
                       w.x_proj[i].parts[0].gradient - 1, expected[i], bar);
      expect_gpu_close(fmt::format("selective_mixer {} ddt_proj", short_name(dtype)),
                       w.dt_proj[i].parts[0].gradient - 1, expected[2 + i], bar);
    }
  }
}

}  // namespace
}  // namespace dm::kernels::test
