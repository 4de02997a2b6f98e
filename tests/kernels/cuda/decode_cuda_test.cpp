// The operations of one token of decoding on the GPU.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <array>

#include "kernels/conv/causal_conv.h"
#include "kernels/selective_scan/selective_scan.h"
#include "kernels/ssd/ssd.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

double bar(at::ScalarType dtype) { return dtype == at::kBFloat16 ? 4e-3 : 1e-5; }

/// A value as the GPU has it, in both places.
struct Pair {
  at::Tensor gpu, cpu;
  Pair(const at::Tensor& value, at::ScalarType dtype)
      : gpu(value.to(at::kCUDA, dtype)), cpu(rounded(value, dtype)) {}
};

TEST(DecodeCuda, SsdStepEqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const auto& [heads, head_dim, groups, states] : std::vector<std::array<int64_t, 4>>{{4, 32, 2, 128},
                                                                                             {2, 16, 1, 8},
                                                                                             {3, 5, 3, 33},
                                                                                             {4, 64, 1, 64},
                                                                                             {2, 8, 1, 16},
                                                                                             {1, 1, 1, 1},
                                                                                             {2, 4, 1, 256}})
      for (const at::ScalarType dt_type : {dtype, at::kFloat}) {
        SCOPED_TRACE(
            fmt::format("{} H {} P {} G {} N {}", short_name(dtype), heads, head_dim, groups, states));
        const Pair a(-uniform("a", {heads}, 1, 16), at::kFloat), d(normal("d", {heads}), at::kFloat);
        Pair state(normal("state", {3, heads, head_dim, states}), at::kFloat);
        for (int64_t t = 0; t < 3; ++t) {
          const auto name = [&](const char* of) { return of + std::to_string(t); };
          const Pair x(normal(name("x"), {3, heads, head_dim}), dtype),
              dt(uniform(name("dt"), {3, heads}, 1e-3, 0.1), dt_type),
              bc(normal(name("bc"), {3, groups, 2 * states}), dtype);  // halves of it: strided views
          const auto step = [&](auto side, at::Tensor& s) {
            const auto half = [&](int64_t which) { return (bc.*side).narrow(2, which * states, states); };
            return ssd_step(x.*side, dt.*side, a.*side, half(0), half(1), d.*side, s);
          };
          const at::Tensor got = step(&Pair::gpu, state.gpu), expected = step(&Pair::cpu, state.cpu);
          expect_gpu_close(fmt::format("ssd_step {} y", short_name(dtype)), got, expected, bar(dtype));
        }
        expect_gpu_close("ssd_step state", state.gpu, state.cpu, 1e-5);
      }
}

TEST(DecodeCuda, SelectiveStepEqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const auto& [channels, states] :
         std::vector<std::array<int64_t, 2>>{{40, 16}, {33, 5}, {64, 64}, {7, 130}, {1, 1}}) {
      SCOPED_TRACE(fmt::format("{} E {} N {}", short_name(dtype), channels, states));
      const Pair a(-uniform("a", {channels, states}, 1, 16), at::kFloat),
          d(normal("d", {channels}), at::kFloat);
      Pair state(normal("state", {3, channels, states}), at::kFloat);
      for (int64_t t = 0; t < 3; ++t) {
        const auto name = [&](const char* of) { return of + std::to_string(t); };
        const Pair x(normal(name("x"), {3, channels}), dtype),
            dt(uniform(name("dt"), {3, channels}, 1e-3, 0.1), dtype),
            bc(normal(name("bc"), {3, 2 * states}), dtype);
        const auto step = [&](auto side, at::Tensor& s) {
          const auto half = [&](int64_t which) { return (bc.*side).narrow(1, which * states, states); };
          return selective_step(x.*side, dt.*side, a.*side, half(0), half(1), d.*side, s);
        };
        const at::Tensor got = step(&Pair::gpu, state.gpu), expected = step(&Pair::cpu, state.cpu);
        expect_gpu_close(fmt::format("selective_step {} y", short_name(dtype)), got, expected, bar(dtype));
      }
      expect_gpu_close("selective_step state", state.gpu, state.cpu, 1e-5);
    }
}

TEST(DecodeCuda, CausalConvStepEqualsTheCpu) {
  for (const auto& [dtype, window_type] : std::vector<std::pair<at::ScalarType, at::ScalarType>>{
           {at::kBFloat16, at::kBFloat16}, {at::kBFloat16, at::kFloat}, {at::kFloat, at::kFloat}})
    for (const int64_t width : {1, 2, 4, 7}) {
      SCOPED_TRACE(fmt::format("{}, window {}, W {}", short_name(dtype), short_name(window_type), width));
      const Pair weight(normal("weight", {50, width}), at::kFloat), bias(normal("bias", {50}), at::kFloat);
      Pair window(normal("window", {3, width - 1, 50}), window_type);
      for (int64_t t = 0; t < 5; ++t) {
        const Pair x(normal("x" + std::to_string(t), {3, 80}), dtype);
        const at::Tensor got = causal_conv_step(x.gpu.narrow(1, 20, 50), weight.gpu, bias.gpu, window.gpu);
        const at::Tensor expected =
            causal_conv_step(x.cpu.narrow(1, 20, 50), weight.cpu, bias.cpu, window.cpu);
        expect_gpu_close(fmt::format("causal_conv_step {} y", short_name(dtype)), got, expected, bar(dtype));
      }
      if (width > 1) expect_gpu_close("causal_conv_step window", window.gpu, window.cpu, 0);
    }
}

}  // namespace
}  // namespace dm::kernels::test
