// Products on the GPU, and where the gradients of a weight made of parts go.

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/linear/linear.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

TEST(LinearCuda, EqualsTheCpu) {
  for (const auto& [dtype, bars] : std::vector<std::pair<at::ScalarType, Bars>>{{at::kBFloat16, {4e-3, 6e-3}},
                                                                                {at::kFloat, {1e-5, 1e-5}}})
    for (const int64_t tokens : {1, 3, 129})
      for (const int64_t outputs : {1, 65, 200})
        expect_gpu_close(
            fmt::format("linear {}", short_name(dtype)),
            [](const Tensors& t) -> Tensors { return {kernels::linear(t[0], t[1])}; },
            {{"x", normal("x", {2, tokens, 48}), dtype}, {"weight", normal("weight", {outputs, 48}), dtype}},
            bars);
}

/// Neighbours of equal shape go in pairs where the gradients stand in the same order; these are added to.
TEST(LinearCuda, PartsOfAWeightGetTheirGradients) {
  constexpr int64_t kTokens = 300, kIn = 64, kOut = 96;
  struct Block {
    int64_t row, column, rows, columns;
  };
  for (const std::vector<Block>& blocks : std::vector<std::vector<Block>>{
           {{0, 0, 48, 64}, {48, 0, 48, 64}},                                    // one below the other
           {{0, 0, 96, 32}, {0, 32, 96, 32}},                                    // beside each other
           {{0, 0, 40, 64}, {40, 0, 40, 64}, {80, 0, 16, 64}},                   // and one of another shape
           {{0, 0, 24, 64}, {24, 0, 24, 64}, {48, 0, 24, 64}, {72, 0, 24, 64}},  // two pairs
           {{0, 0, 32, 64}, {32, 0, 32, 64}, {64, 0, 32, 64}}})                  // one left over
    for (const auto& [dtype, ascending] : std::vector<std::pair<at::ScalarType, bool>>{
             {at::kBFloat16, true}, {at::kFloat, true}, {at::kBFloat16, false}, {at::kFloat, false}}) {
      SCOPED_TRACE(fmt::format("{} {} parts, {}", short_name(dtype), blocks.size(),
                               ascending ? "in order" : "the last first"));
      const at::Tensor x = normal("x", {kTokens, kIn}), w = normal("w", {kOut, kIn}),
                       dy = normal("dy", {kTokens, kOut});
      const at::Tensor expected = at::mm(rounded(dy, dtype).t(), rounded(x, dtype));
      const at::Tensor memory = at::ones({3 * kOut * kIn}, at::TensorOptions(at::kCUDA));
      Weight weight(w.to(at::kCUDA, dtype));
      for (size_t i = 0; i < blocks.size(); ++i) {  // with gaps between them
        const Block& block = blocks[i];
        const auto place = static_cast<int64_t>(ascending ? i : blocks.size() - 1 - i);
        weight.parts.push_back(
            {memory.narrow(0, 8 + place * (kOut * kIn / 2 + 24), block.rows * block.columns)
                 .view({block.rows, block.columns}),
             block.row, block.column});
      }
      const at::Tensor leaf = x.to(at::kCUDA, dtype).requires_grad_();
      torch::autograd::grad({kernels::linear(leaf, weight)}, {leaf}, {dy.to(at::kCUDA, dtype)});
      for (size_t i = 0; i < blocks.size(); ++i)
        expect_gpu_close(
            "linear, gradient of a part", weight.parts[i].gradient - 1,
            expected.narrow(0, blocks[i].row, blocks[i].rows).narrow(1, blocks[i].column, blocks[i].columns),
            1e-5);
    }
}

}  // namespace
}  // namespace dm::kernels::test
