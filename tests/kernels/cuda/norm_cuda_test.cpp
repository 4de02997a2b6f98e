#include "kernels/norm/norm.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include "kernels/norm/residual_norm.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr double kEps = 1e-5;
constexpr Bars kBf16{4e-3, 6e-3}, kFp32{1e-5, 1e-5};

const std::vector<std::vector<int64_t>> kShapes = {
    {48},         {1, 32},       {3, 5, 16},  {2, 33, 24}, {70, 300},  {5, 7},     {2047, 768},
    {1500, 1024}, {2, 65, 2048}, {129, 2560}, {127, 4096}, {63, 8192}, {20, 9000}, {600, 8}};

/// In `dtype` on the GPU, in float64 on the CPU.
std::optional<at::ScalarType> result(const at::Tensor& x, at::ScalarType dtype) {
  return x.is_cuda() ? std::optional(dtype) : std::nullopt;
}

TEST(NormCuda, EqualsTheCpu) {
  for (const std::vector<int64_t>& shape : kShapes)
    for (const at::ScalarType x : {at::kBFloat16, at::kFloat})
      for (const at::ScalarType y : {at::kBFloat16, at::kFloat}) {
        const std::string name = fmt::format("{} to {}", short_name(x), short_name(y));
        SCOPED_TRACE(fmt::format("{} D {}", name, shape.back()));
        const Bars& bars = x == at::kFloat && y == at::kFloat ? kFp32 : kBf16;
        GpuInputs in = {{"x", normal("x", shape) + 0.5, x},
                        {"weight", normal("weight", {shape.back()}) + 1, at::kFloat}};
        expect_gpu_close(
            "rms_norm " + name,
            [y](const Tensors& t) -> Tensors { return {rms_norm(t[0], t[1], kEps, result(t[0], y))}; }, in,
            bars);
        in.push_back({"bias", normal("bias", {shape.back()}), at::kFloat});
        expect_gpu_close(
            "layer_norm " + name,
            [y](const Tensors& t) -> Tensors {
              return {layer_norm(t[0], t[1], t[2], kEps, result(t[0], y))};
            },
            in, bars);
      }
}

TEST(NormCuda, TakesStridedInputs) {
  const at::Tensor wide = normal("wide", {40, 100}).to(at::kCUDA, at::kFloat),
                   weight = normal("weight", {64}).to(at::kCUDA, at::kFloat);
  for (const int64_t first : {0, 8, 3}) {
    const at::Tensor view = wide.narrow(1, first, 64);
    EXPECT_LE(
        relative_error(rms_norm(view, weight, kEps).cpu(), rms_norm(view.contiguous(), weight, kEps).cpu()),
        1e-6);
  }
}

// h, y, subln, weight
Tensors residual(const Tensors& t) {
  const ResidualNorm r =
      residual_norm(t[0], t[1], t[2].defined() ? std::optional(t[2]) : std::nullopt, t[3], kEps);
  return {r.h, r.u};
}

GpuInputs residual_inputs(const std::vector<int64_t>& shape, bool subln, at::ScalarType stream,
                          at::ScalarType dtype) {
  const int64_t width = shape.back();
  return {{"h", normal("h", shape) * 2, stream},
          {"y", normal("y", shape), dtype},
          {"subln", subln ? normal("subln", {width}) + 1 : at::Tensor(), at::kFloat},
          {"weight", normal("weight", {width}) + 1, at::kFloat}};
}

TEST(ResidualNormCuda, EqualsTheCpu) {
  const std::vector<std::pair<at::ScalarType, at::ScalarType>> dtypes = {
      {at::kFloat, at::kBFloat16}, {at::kBFloat16, at::kBFloat16}, {at::kFloat, at::kFloat}};
  for (const std::vector<int64_t>& shape : kShapes)
    for (const auto& [stream, dtype] : dtypes)
      for (const bool subln : {true, false}) {
        const std::string name = fmt::format("residual_norm {} stream {}{}", short_name(stream),
                                             short_name(dtype), subln ? "" : ", no subln,");
        SCOPED_TRACE(fmt::format("{} D {}", name, shape.back()));
        const Bars& bars = dtype == at::kFloat ? kFp32 : kBf16;
        const GpuInputs in = residual_inputs(shape, subln, stream, dtype);
        expect_gpu_close(name, residual, in, bars);
        if (shape.back() > 100 && shape.back() != 768) continue;
        expect_gpu_close(name + " h alone", residual, in, bars, {true, false});
        expect_gpu_close(name + " u alone", residual, in, bars, {false, true});
      }
}

TEST(ResidualNormCuda, CountsBeyond32Bits) {
  const at::TensorOptions gpu = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  for (const int64_t width : {2048, 2050}) {
    const at::Tensor weight = normal("weight", {width}).to(at::kCUDA, at::kFloat);
    const at::Tensor h = at::randn({1050001, width}, gpu), y = at::randn({1050001, width}, gpu);
    expect_last_row_alone([&](const Tensors& t) -> Tensors { return {rms_norm(t[0], weight, kEps)}; }, {h});
    if (width % 8 != 0) continue;
    expect_last_row_alone(
        [&](const Tensors& t) -> Tensors {
          const ResidualNorm r = residual_norm(t[0], t[1], weight, weight, kEps);
          return {r.h, r.u};
        },
        {h, y});
  }
}

TEST(ResidualNormCuda, RefusesWhatDoesNotFit) {
  const at::Tensor h = normal("h", {4, 16}).to(at::kCUDA, at::kBFloat16), y = h.to(at::kFloat),
                   weight = normal("weight", {16}).to(at::kCUDA, at::kFloat);
  EXPECT_EQ(refusal([&] { residual_norm(h, y, std::nullopt, weight, kEps); }),
            "residual_norm: h is bfloat16 [4, 16] on cuda:0 and y float32 [4, 16] on cuda:0: expected one "
            "shape [.., D] and one dtype, or on a GPU a float32 h");
  EXPECT_EQ(refusal([&] { residual_norm(y, h, std::nullopt, weight.to(at::kBFloat16), kEps); }),
            "residual_norm: weight is bfloat16 [16] on cuda:0, expected float32 [16]");
}

}  // namespace
}  // namespace dm::kernels::test
