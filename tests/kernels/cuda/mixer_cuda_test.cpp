// The Mamba-2 mixer as one operation, and a token of decoding through a block.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "core/log.h"
#include "kernels/decode/norm_linear.h"
#include "kernels/ssd_mixer/ssd_mixer.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr double kEps = 1e-5;

SsdMixerForm form(int64_t branches, int64_t inner, int64_t head_dim, int64_t groups, int64_t states) {
  return {.branches = branches,
          .inner = inner,
          .heads = inner / head_dim,
          .groups = groups,
          .d_state = states,
          .spans = branches,
          .eps = kEps,
          .dt_min = 0,
          .dt_max = std::numeric_limits<double>::infinity(),
          .chunk = 64};
}

std::string name_of(const SsdMixerForm& f, at::ScalarType dtype) {
  return fmt::format("{} branches {} E {} H {} G {} N {}", short_name(dtype), f.branches, f.inner, f.heads,
                     f.groups, f.d_state);
}

/// projected, conv weight and bias, dt bias, a, d, norm, scale: on the GPU all but the first in float32.
GpuInputs mixer_inputs(const SsdMixerForm& f, at::IntArrayRef tokens, at::ScalarType dtype) {
  std::vector<int64_t> projected(tokens.begin(), tokens.end());
  projected.push_back(f.branches * f.rows());
  const int64_t channels = f.branches * f.channels(), heads = f.branches * f.heads;
  return {{"projected", normal("projected", projected), dtype},
          {"conv_weight", normal("conv_weight", {channels, 4}) * 0.5, at::kFloat},
          {"conv_bias", normal("conv_bias", {channels}) * 0.5, at::kFloat},
          {"dt_bias", uniform("dt_bias", {heads}, -4, -1), at::kFloat},
          {"a", -uniform("a", {heads}, 1, 16), at::kFloat},
          {"d", normal("d", {heads}) * 0.1 + 1, at::kFloat},
          {"norm", normal("norm", {f.branches * f.inner}) * 0.1 + 1, at::kFloat},
          {"scale", normal("scale", {f.branches}), at::kFloat}};
}

SsdMixerWeights weights(const Tensors& t) { return {t[1], t[2], t[3], t[4], t[5], t[6]}; }

// D near 1, as it starts: where D x and the state's part cancel, the norm behind them magnifies rounding.
// The operations before and after the scan round once more each (convolution, y), so that errors of 2^-9 add
// up to the bars of the scan itself and the gate behind it. Of two heads, the gradients that are sums over
// all tokens (of Δ, a, D) may cancel to half: twice the bar of the decays and a quarter.
TEST(SsdMixerCuda, EqualsTheCpu) {
  for (const auto& [dtype, bars] : std::vector<std::pair<at::ScalarType, Bars>>{
           {at::kBFloat16, {6e-3, 2.5e-2}}, {at::kFloat, {1e-5, 2e-5}}})
    for (const SsdMixerForm& f : {form(2, 64, 32, 1, 128), form(1, 128, 64, 1, 64), form(2, 32, 16, 2, 8),
                                  form(2, 256, 128, 2, 32), form(1, 128, 32, 2, 256)})
      for (const int64_t length : {1, 65, 200})
        for (const MixerRecompute recompute :
             {MixerRecompute::none, MixerRecompute::conv, MixerRecompute::scan}) {
          SsdMixerForm used = f;
          used.recompute = recompute;
          SCOPED_TRACE(name_of(f, dtype) + fmt::format(" L {}", length));
          const at::Tensor seq_idx = documents({{length / 2 + 1}, {length}}, length);
          expect_gpu_close(
              fmt::format("ssd_mixer {}", short_name(dtype)),
              [&](const Tensors& t) -> Tensors {
                return {ssd_mixer(t[0], weights(t), t[7], seq_idx.to(t[0].device()), used)};
              },
              mixer_inputs(f, {2, length}, dtype), bars);
        }
}

// The second half goes on with what the first one ends in, across a border of documents in row 0.
TEST(SsdMixerCuda, RowsThatGoOnEqualTheCpu) {
  for (const auto& [dtype, bars] : std::vector<std::pair<at::ScalarType, Bars>>{
           {at::kBFloat16, {6e-3, 2.5e-2}}, {at::kFloat, {1e-5, 2e-5}}})
    for (const SsdMixerForm& f : {form(2, 64, 32, 1, 128), form(2, 32, 16, 2, 8)})
      for (const auto& [length, cut] : {std::pair<int64_t, int64_t>{130, 65}, {200, 2}, {66, 64}, {1600, 3}})
        for (const MixerRecompute recompute :
             {MixerRecompute::none, MixerRecompute::conv, MixerRecompute::scan}) {
          SsdMixerForm used = f;
          used.recompute = recompute;
          SCOPED_TRACE(name_of(f, dtype) + fmt::format(" L {} cut at {}", length, cut));
          const at::Tensor seq_idx = documents({{cut}, {length}}, length);
          expect_gpu_close(fmt::format("ssd_mixer in halves {}", short_name(dtype)),
                           [&, length = length, cut = cut](const Tensors& t) -> Tensors {
                             const auto ids = [&](int64_t begin, int64_t end) {
                               return seq_idx.slice(1, begin, end).to(t[0].device());
                             };
                             SsdMixerState carried, last;
                             const at::Tensor first = ssd_mixer(t[0].slice(1, 0, cut), weights(t), t[7],
                                                                ids(0, cut), used, {.leaving = &carried});
                             const at::Tensor before =
                                 at::cat({ids(0, 1).expand({-1, 3}), ids(0, cut)}, 1).slice(1, cut, cut + 3);
                             const at::Tensor second = ssd_mixer(t[0].slice(1, cut), weights(t), t[7],
                                                                 Documents(ids(cut, length), before), used,
                                                                 {.entering = &carried, .leaving = &last});
                             return {first, second, last.window, last.state};
                           },
                           mixer_inputs(f, {2, length}, dtype), bars, {true, true, false, false});
        }
}

TEST(SsdMixerCuda, SaysOnceWhichShapesAreSlow) {
  const std::string path = ::testing::TempDir() + "ssd_mixer_log";
  std::filesystem::remove(path);
  set_log_file(path);
  for (const SsdMixerForm& f : {form(1, 80, 40, 1, 24), form(1, 80, 40, 1, 24), form(1, 96, 96, 1, 24)}) {
    Tensors t;
    for (const GpuInput& input : mixer_inputs(f, {1, 3}, at::kBFloat16))
      t.push_back(input.value.to(at::kCUDA, input.dtype));
    ssd_mixer(t[0], weights(t), t[7], documents({{3}}, 3).to(at::kCUDA), f);
  }
  set_log_file("");
  std::ifstream file(path);
  const std::string log{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(log.find("heads of 40 channels and a state of 24 runs on the plain CUDA kernels"), log.npos)
      << log;
  EXPECT_EQ(log.find("plain"), log.rfind("plain")) << log;
}

struct Side {
  at::Tensor gpu, cpu;
  Side(const at::Tensor& value, at::ScalarType dtype)
      : gpu(value.to(at::kCUDA, dtype)), cpu(rounded(value, dtype)) {}
};

TEST(DecodeCuda, MixerStepWithItsProductEqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const SsdMixerForm& f :
         {form(2, 256, 32, 1, 128), form(1, 512, 64, 1, 64), form(2, 768, 32, 2, 128), form(2, 48, 16, 1, 8)})
      for (const int64_t rows : {1, 2, 3, 8, 11}) {
        SCOPED_TRACE(name_of(f, dtype) + fmt::format(" B {}", rows));
        const Poison poison;
        Tensors gpu, cpu;
        for (const GpuInput& in : mixer_inputs(f, {rows}, dtype)) {
          const Side side(in.value, in.dtype);
          gpu.push_back(side.gpu), cpu.push_back(side.cpu);
        }
        const int64_t channels = f.branches * f.channels(), wide = f.branches * f.inner;
        const Side out_proj(normal("out_proj", {272, wide}) / 16, dtype);
        const Side window(normal("window", {rows, 3, channels}), dtype),
            state(normal("state", {rows, f.branches * f.heads, f.inner / f.heads, f.d_state}), at::kFloat);
        SsdMixerState on_gpu{window.gpu, state.gpu}, on_cpu{window.cpu, state.cpu};
        DecodeChain chain;
        for (int64_t t = 0; t < 5; ++t) {
          const Side projected(normal(fmt::format("projected {}", t), {rows, f.branches * f.rows()}), dtype);
          const at::Tensor got =
              ssd_mixer_step(projected.gpu, weights(gpu), gpu[7], on_gpu, f, out_proj.gpu, chain);
          chain.run();
          const at::Tensor expected =
              ssd_mixer_step(projected.cpu, weights(cpu), cpu[7], on_cpu, f, out_proj.cpu, chain);
          // One rounding of y and one of the product; where the launches do not serve, some more.
          expect_gpu_close(fmt::format("ssd_mixer_step {} product", short_name(dtype)), got, expected,
                           dtype == at::kBFloat16 ? 8e-3 : 1e-5);
        }
        // Rounding of B, C and Δ to bfloat16, where the operations run one by one, reaches the state.
        expect_gpu_close(fmt::format("ssd_mixer_step {} state", short_name(dtype)), state.gpu, state.cpu,
                         dtype == at::kBFloat16 ? 4e-3 : 1e-5);
        expect_gpu_close("ssd_mixer_step window", window.gpu, window.cpu, 0);
      }
}

TEST(DecodeCuda, NormWithItsProductEqualsTheCpu) {
  for (const int64_t width : {64, 1024, 1000, 2560})
    for (const int64_t outputs : {1, 5003}) {
      const Side matrix(normal("matrix", {outputs, width}) / 32, at::kBFloat16);
      for (const int64_t rows : {1, 2, 3, 8, 11})
        for (const bool first : {false, true})
          for (const bool subln : {false, true}) {
            SCOPED_TRACE(fmt::format("D {} B {} O {}, {}, {}", width, rows, outputs, first ? "no y" : "y",
                                     subln ? "subln" : "no subln"));
            const Poison poison;
            const Side h(normal("h", {rows, width}), at::kFloat),
                y(normal("y", {rows, width}), at::kBFloat16), inner(normal("inner", {width}), at::kFloat),
                weight(normal("weight", {width}), at::kFloat);
            const auto run = [&](auto side) {
              PendingNorm pending{h.*side, std::nullopt, std::nullopt, weight.*side, kEps};
              if (!first) pending.y = y.*side;
              if (!first && subln) pending.subln = inner.*side;
              DecodeChain chain;
              const NormedProduct result = norm_linear(pending, matrix.*side, chain);
              chain.run();
              return result;
            };
            const NormedProduct got = run(&Side::gpu), again = run(&Side::gpu), expected = run(&Side::cpu);
            expect_gpu_close("norm_linear h", got.h, expected.h, 1e-6);
            // The product's input is rounded once, and so is the product; a single output may cancel.
            expect_gpu_close(outputs == 1 ? "norm_linear single product" : "norm_linear product", got.product,
                             expected.product, outputs == 1 ? 4e-2 : 8e-3);
            EXPECT_TRUE(same_bits(got.product.cpu(), again.product.cpu()));
          }
    }
}

}  // namespace
}  // namespace dm::kernels::test
