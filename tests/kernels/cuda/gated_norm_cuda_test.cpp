#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/gated_norm/cuda/gated_norm_cuda.cuh"
#include "kernels/gated_norm/gated_norm.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr double kEps = 1e-5;
constexpr Bars kBf16{4e-3, 6e-3}, kFp32{1e-5, 1e-5};

const Bars& bars(at::ScalarType dtype) { return dtype == at::kBFloat16 ? kBf16 : kFp32; }

// y, z, weight, scale
Function gated(int64_t spans) {
  return [spans](const Tensors& t) -> Tensors {
    return {gated_norm(t[0], t[1], t[2], spans, t[3].defined() ? std::optional(t[3]) : std::nullopt, kEps)};
  };
}

void expect_close(int64_t batch, int64_t length, int64_t width, int64_t spans, at::IntArrayRef scale,
                  at::ScalarType dtype, const char* what = "gated_norm") {
  SCOPED_TRACE(fmt::format("{} B {} L {} E {} spans {} scale of {} dims, S {}", short_name(dtype), batch,
                           length, width, spans, scale.size(), scale.empty() ? 0 : scale.back()));
  expect_gpu_close(std::string(what) + " " + short_name(dtype), gated(spans),
                   {{"y", normal("y", {batch, length, width}), dtype},
                    {"z", normal("z", {batch, length, width}), dtype},
                    {"weight", normal("weight", {width}) + 1, at::kFloat},
                    {"scale", scale.empty() ? at::Tensor() : normal("scale", scale), at::kFloat}},
                   bars(dtype));
}

TEST(GatedNormCuda, EqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    for (const int64_t length : {1, 3, 63, 65, 127, 129}) {
      expect_close(2, length, 96, 2, {2}, dtype);
      expect_close(2, length, 64, 1, {2, length, 4}, dtype);
    }
    for (const std::vector<int64_t>& scale : std::vector<std::vector<int64_t>>{
             {}, {2}, {1}, {1, 1, 2}, {3, 1, 4}, {17, 6}, {3, 17, 2}, {3, 17, 12}, {1, 17, 12}})
      for (const int64_t spans : {1, 2, 3, 4, 12}) expect_close(3, 17, 192, spans, scale, dtype);
    expect_close(1, 2047, 1536, 2, {2}, dtype);
    expect_close(1, 300, 2048, 2, {1, 300, 64}, dtype);
    expect_close(1, 300, 4096, 4, {2}, dtype);
    expect_close(1, 130, 5120, 2, {80}, dtype);
    expect_close(1, 300, 8192, 16, {1, 300, 128}, dtype);
    expect_close(1, 1500, 8192, 2, {2}, dtype);
  }
}

TEST(GatedNormCuda, TakesOddShapes) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    expect_close(2, 65, 300, 2, {2}, dtype, "gated_norm, plain,");
    expect_close(2, 65, 300, 3, {2, 65, 4}, dtype, "gated_norm, plain,");
    expect_close(2, 33, 24, 2, {12}, dtype, "gated_norm, plain,");
    expect_close(2, 33, 24, 2, {2, 33, 24}, dtype, "gated_norm, plain,");
    expect_close(1, 400, 16, 2, {}, dtype, "gated_norm, plain,");
    expect_close(1, 20, 9000, 2, {2}, dtype, "gated_norm, plain,");
  }
}

TEST(GatedNormCuda, ShutGatesStayFinite) {
  GpuInputs in = {{"y", normal("y", {1, 4, 64}), at::kFloat},
                  {"z", normal("z", {1, 4, 64}) * 1e3, at::kFloat},
                  {"weight", normal("weight", {64}), at::kFloat},
                  {"scale", normal("scale", {2}), at::kFloat}};
  expect_gpu_close("gated_norm, shut gates", gated(2), in, kFp32);
  for (size_t i = 0; i < 2; ++i) in[i].dtype = at::kBFloat16;
  expect_gpu_close("gated_norm, shut gates, bf16", gated(2), in, kBf16);
}

TEST(GatedNormCuda, CountsBeyond32Bits) {
  const at::TensorOptions gpu = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  for (const int64_t width : {2048, 2050}) {
    const at::Tensor weight = normal("weight", {width}).to(at::kCUDA, at::kFloat),
                     scale = normal("scale", {2}).to(at::kCUDA, at::kFloat);
    expect_last_row_alone(
        [&](const Tensors& t) -> Tensors { return {gated_norm(t[0], t[1], weight, 2, scale, kEps)}; },
        {at::randn({525, 2000, width}, gpu), at::randn({525, 2000, width}, gpu)});
  }
}

/// z and its gradient in the columns of a projection whose branches stand beside each other.
void expect_columns_close(int64_t tokens, int64_t branches, int64_t inner, int64_t padding, bool by_token,
                          at::ScalarType dtype) {
  const int64_t width = branches * inner, stride = inner + padding, sections = 2 * branches;
  const at::Tensor y = normal("y", {1, tokens, width}),
                   projected = normal("z", {1, tokens, branches * stride});
  const at::Tensor weight = normal("weight", {width}),
                   scale = by_token ? normal("scale", {1, tokens, sections}) : normal("scale", {sections});
  const auto z_of = [&](const at::Tensor& t) {
    return t.unflatten(2, {branches, stride}).narrow(3, 0, inner).flatten(2);
  };
  Tensors cpu = {rounded(y, dtype), rounded(projected, dtype), rounded(weight, at::kFloat),
                 rounded(scale, at::kFloat)};
  for (at::Tensor& t : cpu) t = t.requires_grad_();
  const at::Tensor expected = gated_norm(cpu[0], z_of(cpu[1]), cpu[2], branches, cpu[3], kEps);
  const at::Tensor dout = rounded(normal("dout", expected.sizes()), dtype);
  const auto gradients = torch::autograd::grad({expected}, {cpu[0], cpu[1], cpu[2], cpu[3]}, {dout});

  const Poison poison;
  const at::Tensor gy = y.to(at::kCUDA, dtype), gz = projected.to(at::kCUDA, dtype),
                   gw = weight.to(at::kCUDA, at::kFloat), gs = scale.to(at::kCUDA, at::kFloat),
                   gd = dout.to(at::kCUDA, dtype);
  at::Tensor out = at::empty_like(gy), root = at::empty({tokens, branches}, gw.options());
  at::Tensor dy = at::empty_like(gy), dz = at::zeros_like(gz), dweight = at::empty_like(gw),
             dscale = at::empty_like(gs);
  const cuda::GatedNormInputs in{.tokens = tokens,
                                 .branches = branches,
                                 .inner = inner,
                                 .spans = branches,
                                 .sections = sections,
                                 .scale_by_token = by_token,
                                 .element = element_of(gy),
                                 .y = gy.const_data_ptr(),
                                 .z = gz.const_data_ptr(),
                                 .weight = gw.const_data_ptr<float>(),
                                 .scale = gs.const_data_ptr<float>(),
                                 .eps = static_cast<float>(kEps),
                                 .z_stride = branches * stride,
                                 .z_branch_stride = stride};
  check_launch(cuda::gated_norm_forward({in, out.data_ptr(), root.data_ptr<float>()}, current_stream()),
               "gated_norm_forward");
  const at::Tensor workspace = device_bytes(cuda::gated_norm_workspace_bytes(in), gy);
  check_launch(cuda::gated_norm_backward(
                   {in, root.const_data_ptr<float>(), gd.const_data_ptr(), workspace.data_ptr(),
                    dy.data_ptr(), dz.data_ptr(), dweight.data_ptr<float>(), dscale.data_ptr<float>()},
                   current_stream()),
               "gated_norm_backward");
  const std::string what = std::string("gated_norm of columns ") + short_name(dtype);
  expect_gpu_close(what + " out", out, expected, bars(dtype).outputs);
  expect_gpu_close(what + " dy", dy, gradients[0], bars(dtype).gradients);
  expect_gpu_close(what + " dz", dz, gradients[1], bars(dtype).gradients);
  expect_gpu_close(what + " dweight", dweight, gradients[2], bars(dtype).gradients);
  expect_gpu_close(what + " dscale", dscale, gradients[3], bars(dtype).gradients);
}

TEST(GatedNormCuda, ReadsColumnsOfAProjection) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const bool by_token : {false, true}) {
      expect_columns_close(130, 2, 64, 40, by_token, dtype);
      expect_columns_close(130, 2, 32, 7, by_token, dtype);  // of no multiple of eight
      expect_columns_close(70, 2, 1024, 1312, by_token, dtype);
      expect_columns_close(70, 1, 96, 8, by_token, dtype);
    }
}

}  // namespace
}  // namespace dm::kernels::test
