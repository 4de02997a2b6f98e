#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/conv/causal_conv.h"
#include "kernels/conv/cuda/conv_cuda.cuh"
#include "kernels/device/cuda/tensor.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr Bars kBf16{2.0e-3, 4e-3}, kFp32{1e-5, 1e-5};

const Bars& bars(at::ScalarType dtype) { return dtype == at::kBFloat16 ? kBf16 : kFp32; }

// x, weight, bias, seq_idx, initial
Tensors conv(const Tensors& t) {
  return {causal_conv_silu(t[0], t[1], t[2], t[3], t[4].defined() ? std::optional(t[4]) : std::nullopt)};
}

GpuInputs inputs(int64_t batch, int64_t length, int64_t channels, int64_t width, const at::Tensor& seq_idx,
                 bool initial, at::ScalarType dtype) {
  return {{"x", normal("x", {batch, length, channels}), dtype},
          {"weight", normal("weight", {channels, width}) * 0.5, at::kFloat},
          {"bias", normal("bias", {channels}), at::kFloat},
          {"seq_idx", seq_idx, at::kInt},
          {"initial", initial ? normal("initial", {batch, width - 1, channels}) : at::Tensor(), dtype}};
}

TEST(ConvCuda, EqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const int64_t length : {1, 2, 3, 63, 65, 127, 129, 515, 2047})
      for (const int64_t channels : {40, 300}) {
        SCOPED_TRACE(fmt::format("{} L {} C {}", short_name(dtype), length, channels));
        const at::Tensor ids = documents({{length / 3, 2, 1, 70}, {}}, length);
        for (const bool initial : {false, true})
          expect_gpu_close(std::string("conv ") + short_name(dtype), conv,
                           inputs(2, length, channels, 4, ids, initial, dtype), bars(dtype));
      }
}

TEST(ConvCuda, TakesOddShapes) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const auto& [channels, width] : std::vector<std::pair<int64_t, int64_t>>{{21, 4}, {16, 1}, {33, 7}})
      for (const int64_t length : {1, 5, 130}) {
        SCOPED_TRACE(fmt::format("{} L {} C {} W {}", short_name(dtype), length, channels, width));
        expect_gpu_close(std::string("conv, plain, ") + short_name(dtype), conv,
                         inputs(2, length, channels, width, documents({{40, 3}, {1}}, length), true, dtype),
                         bars(dtype));
      }
}

TEST(ConvCuda, ReadsColumnsOfAProjection) {
  const int64_t length = 70;
  const at::Tensor wide = normal("wide", {2, length, 96}).to(at::kCUDA, at::kBFloat16);
  const at::Tensor weight = normal("weight", {40, 4}).to(at::kCUDA, at::kFloat),
                   bias = normal("bias", {40}).to(at::kCUDA, at::kFloat),
                   ids = documents({{30}, {}}, length).to(at::kCUDA);
  const Tensors view{wide.narrow(2, 16, 40), weight, bias, ids, at::Tensor()};
  Tensors copy = view;
  copy[0] = copy[0].contiguous();
  EXPECT_TRUE(same_bits(conv(view)[0].cpu(), conv(copy)[0].cpu()));
}

TEST(ConvCuda, OtherDocumentsAreLeftOutWhateverTheyHold) {
  at::Tensor x = normal("x", {1, 100, 16});
  x.narrow(1, 0, 50).fill_(std::numeric_limits<double>::quiet_NaN());
  const at::Tensor ids = documents({{50}}, 100).to(at::kCUDA);
  const at::Tensor y =
      causal_conv_silu(x.to(at::kCUDA, at::kBFloat16), normal("weight", {16, 4}).to(at::kCUDA, at::kFloat),
                       normal("bias", {16}).to(at::kCUDA, at::kFloat), ids, std::nullopt);
  EXPECT_TRUE(y.narrow(1, 50, 50).isfinite().all().item<bool>());
}

TEST(ConvCuda, CountsBeyond32Bits) {
  const at::TensorOptions gpu = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  for (const int64_t width : {4, 3}) {
    const at::Tensor weight = normal("weight", {2048, width}).to(at::kCUDA, at::kFloat),
                     bias = normal("bias", {2048}).to(at::kCUDA, at::kFloat);
    expect_last_row_alone(
        [&](const Tensors& t) -> Tensors {
          const at::Tensor ids = at::zeros({t[0].size(0), t[0].size(1)}, gpu.dtype(at::kInt));
          return {causal_conv_silu(t[0], weight, bias, ids, std::nullopt)};
        },
        {at::randn({525, 2000, 2048}, gpu)});
  }
}

// The columns of a mixer's projection: branches z | x | B | C | dt beside each other.
struct Mixer {
  int64_t batch, length, branches, inner, group_width, heads, width;
  double dt_min, dt_max;
  int64_t channels() const { return inner + 2 * group_width; }
  int64_t columns() const { return 2 * inner + 2 * group_width + heads; }  // of a branch
};

/// projected, weight, bias, dt_bias, seq_idx, initial -> xbc, dt.
Tensors mixer_truth(const Mixer& m, const Tensors& t) {
  Tensors parts[3], steps;
  const at::Tensor& weight = t[1];
  for (int64_t b = 0; b < m.branches; ++b) {
    const auto mine = [&](const at::Tensor& whole, int64_t dim) {
      return whole.narrow(dim, b * m.channels(), m.channels());
    };
    const at::Tensor branch = t[0].narrow(2, b * m.columns(), m.columns());
    const at::Tensor y =
        causal_conv_silu(branch.narrow(2, m.inner, m.channels()), mine(weight, 0), mine(t[2], 0), t[4],
                         t[5].defined() ? std::optional(mine(t[5], 2)) : std::nullopt);
    parts[0].push_back(y.narrow(2, 0, m.inner));
    parts[1].push_back(y.narrow(2, m.inner, m.group_width));
    parts[2].push_back(y.narrow(2, m.inner + m.group_width, m.group_width));
    steps.push_back(at::clamp(
        at::softplus(branch.narrow(2, m.columns() - m.heads, m.heads) + t[3].narrow(0, b * m.heads, m.heads)),
        m.dt_min, m.dt_max));
  }
  Tensors all;
  for (const Tensors& part : parts) all.insert(all.end(), part.begin(), part.end());
  return {at::cat(all, 2), at::cat(steps, 2)};
}

/// The same on the GPU, by the kernels' own interface.
Evaluation mixer_on_gpu(const Mixer& m, const Tensors& t, const Tensors& cotangents) {
  cuda::ConvForward forward{{.rows = m.batch,
                             .length = m.length,
                             .columns = {.branches = m.branches,
                                         .branch_stride = m.columns(),
                                         .x_offset = m.inner,
                                         .dt_offset = m.columns() - m.heads,
                                         .inner = m.inner,
                                         .group_width = m.group_width,
                                         .heads = m.heads},
                             .element = element_of(t[0]),
                             .width = m.width,
                             .projected = t[0].const_data_ptr(),
                             .weight = t[1].const_data_ptr<float>(),
                             .bias = t[2].const_data_ptr<float>(),
                             .dt_bias = t[3].const_data_ptr<float>(),
                             .dt_min = static_cast<float>(m.dt_min),
                             .dt_max = static_cast<float>(m.dt_max),
                             .seq_idx = t[4].const_data_ptr<int32_t>(),
                             .initial = t[5].defined() ? t[5].const_data_ptr() : nullptr,
                             .projected_stride = t[0].stride(1)},
                            nullptr,
                            nullptr};
  at::Tensor xbc = at::empty({m.batch, m.length, m.branches * m.channels()}, t[0].options());
  at::Tensor dt = at::empty({m.batch, m.length, m.branches * m.heads}, t[1].options());
  forward.xbc = xbc.data_ptr();
  forward.dt = dt.data_ptr<float>();
  check_launch(cuda::conv_forward(forward, current_stream()), "conv_forward");
  Tensors gradients{at::zeros_like(t[0])};
  for (size_t i = 1; i < 6; ++i)
    gradients.push_back(t[i].defined() && i != 4 ? at::empty_like(t[i]) : at::Tensor());
  const at::Tensor workspace = device_bytes(cuda::conv_workspace_bytes(forward.in), t[0]);
  const cuda::ConvBackward backward{forward.in,
                                    cotangents[0].const_data_ptr(),
                                    cotangents[1].const_data_ptr<float>(),
                                    workspace.data_ptr(),
                                    gradients[0].data_ptr(),
                                    gradients[1].data_ptr<float>(),
                                    gradients[2].data_ptr<float>(),
                                    gradients[3].data_ptr<float>(),
                                    t[5].defined() ? gradients[5].data_ptr() : nullptr};
  check_launch(cuda::conv_backward(backward, current_stream()), "conv_backward");
  return {{xbc, dt}, gradients};
}

void expect_mixer_close(const Mixer& m, at::ScalarType dtype, bool initial) {
  const int64_t channels = m.branches * m.channels(), heads = m.branches * m.heads;
  const std::vector<const char*> names = {"projected", "weight", "bias", "dt_bias", "seq_idx", "initial"};
  const std::vector<at::ScalarType> dtypes = {dtype, at::kFloat, at::kFloat, at::kFloat, at::kInt, dtype};
  Tensors values = {
      normal("projected", {m.batch, m.length, m.branches * m.columns()}) * 1.5,
      normal("weight", {channels, m.width}) * 0.5,
      normal("bias", {channels}),
      normal("dt_bias", {heads}),
      documents(std::vector<std::vector<int64_t>>(static_cast<size_t>(m.batch), {m.length / 2, 3, 61}),
                m.length),
      initial ? normal("initial", {m.batch, m.width - 1, channels}) : at::Tensor()};
  Tensors gpu, cpu;
  torch::autograd::variable_list wanted;
  for (size_t i = 0; i < values.size(); ++i) {
    const bool floats = values[i].defined() && i != 4;
    gpu.push_back(floats ? values[i].to(at::kCUDA, dtypes[i])
                         : (values[i].defined() ? values[i].to(at::kCUDA) : values[i]));
    cpu.push_back(floats ? rounded(values[i], dtypes[i]).requires_grad_() : values[i]);
    if (floats) wanted.push_back(cpu.back());
  }
  const Tensors expected = mixer_truth(m, cpu);
  const Tensors cotangents = {rounded(normal("dxbc", expected[0].sizes()), dtype),
                              rounded(normal("ddt", expected[1].sizes()), at::kFloat)};
  const auto gradients = torch::autograd::grad({expected[0], expected[1]}, wanted, cotangents);
  const Tensors gpu_cotangents = {cotangents[0].to(at::kCUDA, dtype),
                                  cotangents[1].to(at::kCUDA, at::kFloat)};
  const Poison poison;
  const Evaluation got = mixer_on_gpu(m, gpu, gpu_cotangents), again = mixer_on_gpu(m, gpu, gpu_cotangents);
  const std::string what = std::string("conv of a mixer ") + short_name(dtype);
  expect_gpu_close(what + " xbc", got.outputs[0], expected[0], bars(dtype).outputs);
  expect_gpu_close(what + " dt", got.outputs[1], expected[1], kFp32.outputs);
  size_t next = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i].defined() || i == 4) continue;
    expect_gpu_close(what + " d" + names[i], got.gradients[i], gradients[next++], bars(dtype).gradients);
    EXPECT_TRUE(same_bits(got.gradients[i].cpu(), again.gradients[i].cpu())) << names[i];
  }
  for (size_t i = 0; i < 2; ++i)
    EXPECT_TRUE(same_bits(got.outputs[i].cpu(), again.outputs[i].cpu())) << "output " << i;
}

TEST(ConvCuda, ReadsTheColumnsOfAMixer) {
  const double none = std::numeric_limits<double>::infinity();
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const int64_t length : {1, 63, 129, 600, 2047})
      for (const bool initial : {false, true}) {
        SCOPED_TRACE(fmt::format("{} L {}", short_name(dtype), length));
        expect_mixer_close({2, length, 2, 64, 16, 8, 4, 0, none}, dtype, initial);
        expect_mixer_close({1, length, 1, 48, 32, 40, 4, 0.1, 2}, dtype, initial);
        expect_mixer_close({2, length, 2, 32, 16, 3, 4, 0, none}, dtype, initial);  // columns of no multiple
        expect_mixer_close({1, std::min<int64_t>(length, 200), 2, 24, 6, 2, 3, 0, none}, dtype, initial);
      }
  expect_mixer_close({1, 700, 2, 768, 128, 24, 4, 0, none}, at::kBFloat16, false);
}

}  // namespace
}  // namespace dm::kernels::test
