#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/embedding/embedding.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

/// float32 only copies, and adds a few hundred values; bfloat16 rounds the gradient.
const Bars kBf16{0, 4e-3}, kFp32{0, 1e-6};

Tensors look_up(const Tensors& t) { return {kernels::embedding(t[1], t[0])}; }

void compare(const char* what, const at::Tensor& ids, int64_t vocabulary, int64_t width,
             at::ScalarType dtype) {
  SCOPED_TRACE(
      fmt::format("{} {} V {} D {}, {} ids", what, short_name(dtype), vocabulary, width, ids.numel()));
  expect_gpu_close(std::string("embedding ") + short_name(dtype), look_up,
                   {{"weight", normal("weight", {vocabulary, width}), dtype}, {"ids", ids, at::kLong}},
                   dtype == at::kFloat ? kFp32 : kBf16);
}

TEST(EmbeddingCuda, EqualsTheCpu) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const int64_t width : {1, 16, 33, 48, 1024, 1030})
      for (const int64_t tokens : {1, 3, 31, 32, 33, 63, 65, 127, 129, 2047})
        compare("spread", (at::arange(tokens, at::kLong) * 7919) % 50, 50, width, dtype);
}

TEST(EmbeddingCuda, RunsOfEveryLengthCrossTiles) {
  const int64_t tokens = 1000;
  const at::Tensor place = at::arange(tokens, at::kLong);
  compare("all alike", at::zeros({tokens}, at::kLong), 7, 40, at::kFloat);
  compare("halves", place.div(500, "floor"), 7, 40, at::kFloat);
  for (const int64_t run : {2, 31, 32, 33, 64, 97})
    compare("runs", place.div(run, "floor"), 600, 40, at::kFloat);
  compare("half of them alike", at::where(place % 2 == 0, at::zeros_like(place), place), 1000, 40,
          at::kFloat);
  compare("a real vocabulary", (place * place * 7919) % 50280, 50280, 40, at::kFloat);
}

TEST(EmbeddingCuda, TheGradientOfAPartIsAddedTo) {
  const at::Tensor ids = (at::arange(300, at::kLong) * 31 % 20).view({3, 100}),
                   weight = normal("weight", {20, 24});
  const at::Tensor gradient = at::ones({20, 24}, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
  const Weight parts(weight.to(at::kCUDA, at::kFloat), {{gradient, 0, 0}});
  const at::Tensor y = kernels::embedding(ids.to(at::kCUDA, at::kInt), parts);
  const at::Tensor dy = normal("dy", {3, 100, 24});
  torch::autograd::backward({y}, {dy.to(at::kCUDA, at::kFloat)});
  at::Tensor expected = at::ones({20, 24}, at::kDouble);
  expected.index_add_(0, ids.view(-1), rounded(dy, at::kFloat).view({300, 24}));
  expect_gpu_close("embedding, gradient of a part", gradient, expected, 1e-6);
}

TEST(EmbeddingCuda, UnknownIdsGiveNanAndNoGradient) {
  const at::Tensor ids = at::tensor({0, -1, 3, 5, 3}, at::kLong).to(at::kCUDA);
  const at::Tensor weight = normal("weight", {5, 8}).to(at::kCUDA, at::kFloat).requires_grad_();
  const at::Tensor y = kernels::embedding(ids, weight);
  for (const int64_t t : {1, 3}) EXPECT_TRUE(y[t].isnan().all().item<bool>()) << t;
  for (const int64_t t : {0, 2, 4}) EXPECT_TRUE(y[t].isfinite().all().item<bool>()) << t;
  const at::Tensor dweight = torch::autograd::grad({y}, {weight}, {at::ones_like(y)})[0].cpu();
  const at::Tensor expected = at::tensor({1., 0., 0., 2., 0.}, at::kFloat).unsqueeze(1).expand({5, 8});
  EXPECT_TRUE(at::equal(dweight, expected));
}

}  // namespace
}  // namespace dm::kernels::test
