// One case of every kernel with more than 2^31 elements, and rows of a million tokens: what stands last must
// be what it is by itself. The norms, the gated norm and the convolution have theirs in their own tests.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "kernels/adamw/adamw_cuda.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/selective_scan/selective_scan.h"
#include "kernels/square_sum/square_sum_cuda.h"
#include "kernels/ssd/ssd.h"
#include "kernels/ssd_mixer/ssd_mixer.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

constexpr int64_t kMany = (int64_t{1} << 31) / 1024 + 77;  // rows of 1,024
const at::TensorOptions kGpu = at::TensorOptions(at::kCUDA);

at::Tensor bf16(at::IntArrayRef shape) { return at::randn(shape, kGpu.dtype(at::kBFloat16)); }
at::Tensor fp32(at::IntArrayRef shape, double low, double high) {
  return at::rand(shape, kGpu).mul_(high - low).add_(low);
}
/// The last rows of t, as many as x has.
at::Tensor as_many(const at::Tensor& t, const at::Tensor& x) {
  return t.narrow(0, t.size(0) - x.size(0), x.size(0));
}
at::Tensor last_thousand(const at::Tensor& t) { return t.narrow(0, t.size(0) - 1000, 1000); }

TEST(LargeCuda, SsdOfAMillionTokens) {
  constexpr int64_t kRows = 2, kLength = 1 << 20, kHeads = 36, kGroups = 2, kStates = 128;
  const at::Tensor
      x = bf16({kRows, kLength, kHeads, 32}),
      b = bf16({kRows, kLength, kGroups, kStates}), c = bf16({kRows, kLength, kGroups, kStates}),
      dt = fp32({kRows, kLength, kHeads}, 1e-3, 0.1), a = fp32({kHeads}, -16, -1), d = fp32({kHeads}, -1, 1),
      ids = (at::arange(kLength, kGpu).floor_divide(700'000)).to(at::kInt).expand({kRows, kLength});
  expect_last_row_alone(
      [&](const Tensors& t) -> Tensors {
        const auto rows = [&](const at::Tensor& all) { return as_many(all, t[0]); };
        return {ssd(t[0], rows(dt), a, rows(b), rows(c), d, rows(ids), std::nullopt, 128).y};
      },
      {x});
}

TEST(LargeCuda, SelectiveScan) {
  constexpr int64_t kRows = 3, kLength = 1 << 18, kChannels = 4096, kStates = 4;
  const at::Tensor x = bf16({kRows, kLength, kChannels}), b = bf16({kRows, kLength, kStates}),
                   c = bf16({kRows, kLength, kStates}), a = fp32({kChannels, kStates}, -16, -1),
                   d = fp32({kChannels}, -1, 1), ids = at::zeros({kRows, kLength}, kGpu.dtype(at::kInt));
  const at::Tensor dt = at::rand({kRows, kLength, kChannels}, kGpu.dtype(at::kBFloat16)).mul_(0.1);
  expect_last_row_alone(
      [&](const Tensors& t) -> Tensors {
        const auto rows = [&](const at::Tensor& all) { return as_many(all, t[0]); };
        return {selective_scan(t[0], t[1], a, rows(b), rows(c), d, rows(ids), std::nullopt).y};
      },
      {x, dt});
}

TEST(LargeCuda, MixerStep) {
  constexpr int64_t kRows = 8200;
  const SsdMixerForm form{.branches = 2,
                          .inner = 1024,
                          .heads = 32,
                          .groups = 1,
                          .d_state = 128,
                          .spans = 2,
                          .eps = 1e-5,
                          .dt_min = 0,
                          .dt_max = std::numeric_limits<double>::infinity(),
                          .chunk = 64};
  const int64_t channels = 2 * form.channels();
  const SsdMixerWeights weights{fp32({channels, 4}, -1, 1), fp32({channels}, -1, 1), fp32({64}, -4, -1),
                                fp32({64}, -16, -1),        fp32({64}, -1, 1),       fp32({2048}, 0, 1)};
  const at::Tensor projected = bf16({kRows, 2 * form.rows()}), out_proj = bf16({64, 2048}).mul_(0.02);
  SsdMixerState all{bf16({kRows, 3, channels}), at::randn({kRows, 64, 32, 128}, kGpu)};
  ASSERT_GT(all.state.numel(), int64_t{1} << 31);
  const auto last = [](const at::Tensor& t) { return t.narrow(0, kRows - 1, 1).clone(); };
  SsdMixerState alone{last(all.window), last(all.state)};
  DecodeChain chain;
  const auto step = [&](const at::Tensor& of, SsdMixerState& state) {
    const at::Tensor product = ssd_mixer_step(of, weights, std::nullopt, state, form, out_proj, chain);
    chain.run();
    return product;
  };
  const at::Tensor got = step(projected, all), expected = step(last(projected), alone);
  EXPECT_TRUE(same_bits(last(all.state).cpu(), alone.state.cpu()));
  EXPECT_TRUE(same_bits(last(all.window).cpu(), alone.window.cpu()));
  EXPECT_LE(relative_error(last(got).cpu(), expected.cpu()), 8e-3);  // products of two libraries' rounding
}

TEST(LargeCuda, Linear) {
  const at::Tensor x = bf16({kMany, 1024}), w = bf16({64, 1024});
  EXPECT_LE(
      relative_error(last_thousand(kernels::linear(x, w)).cpu(), kernels::linear(last_thousand(x), w).cpu()),
      4e-3);
}

TEST(LargeCuda, CrossEntropy) {
  const at::Tensor h = bf16({kMany, 1024}), w = bf16({72, 1024}).mul_(0.05),
                   targets = at::randint(72, {kMany}, kGpu.dtype(at::kLong)),
                   mask = at::ones({kMany}, kGpu.dtype(at::kByte));
  const auto run = [&](const at::Tensor& of) -> Tensors {
    const at::Tensor leaf = of.detach().requires_grad_();
    const CrossEntropy out = linear_cross_entropy(leaf, w, as_many(targets, of), as_many(mask, of));
    return {last_thousand(out.per_target).cpu(),
            last_thousand(torch::autograd::grad({out.sum}, {leaf})[0]).cpu()};
  };
  const Tensors got = run(h), expected = run(last_thousand(h));
  EXPECT_LE(relative_error(got[0], expected[0]), 4e-3);
  EXPECT_LE(relative_error(got[1], expected[1]), 6e-3);
}

TEST(LargeCuda, Embedding) {
  const at::Tensor weight = bf16({50, 1024}).requires_grad_(),
                   ids = at::arange(kMany, kGpu.dtype(at::kLong)).remainder_(49);
  ids[kMany - 1] = 49;
  const at::Tensor y = kernels::embedding(ids, weight);
  EXPECT_TRUE(same_bits(last_thousand(y).cpu(), kernels::embedding(last_thousand(ids), weight).cpu()));
  const at::Tensor dy = bf16({kMany, 1024});
  const at::Tensor dweight = torch::autograd::grad({y}, {weight}, {dy})[0];
  EXPECT_TRUE(same_bits(dweight[49].cpu(), dy[kMany - 1].cpu()));
}

TEST(LargeCuda, OptimizerAndItsNorm) {
  const int64_t count = 1024 * kMany;
  const auto flat = [&] { return at::rand({count}, kGpu); };
  const at::Tensor weight = flat(), m = flat(), v = flat(), grad = flat();
  AdamWFactors<float> factors = adamw_factors<float>({.lr = 3e-3,
                                                      .beta1 = 0.9,
                                                      .beta2 = 0.95,
                                                      .eps = 1e-8,
                                                      .weight_decay = 0.1,
                                                      .grad_scale = 0.37,
                                                      .step = 7});
  const at::Tensor on_gpu = at::from_blob(&factors, {7}, at::kFloat).to(at::kCUDA);
  const auto decayed = [&](int64_t end) {
    return at::tensor({end - 500, end}, at::kLong).view({1, 2}).to(at::kCUDA);
  };
  Tensors alone;
  for (const at::Tensor& t : {weight, m, v, grad}) alone.push_back(last_thousand(t).clone());
  adamw_cuda({weight, m, v, grad, decayed(count), on_gpu});
  adamw_cuda({alone[0], alone[1], alone[2], alone[3], decayed(1000), on_gpu});
  EXPECT_TRUE(same_bits(last_thousand(weight).cpu(), alone[0].cpu()));
  EXPECT_TRUE(same_bits(last_thousand(v).cpu(), alone[2].cpu()));

  grad.fill_(2);
  EXPECT_EQ(square_sum_cuda(grad).sum.item<double>(), 4. * static_cast<double>(count));
  grad[count - 1] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(square_sum_cuda(grad).first_nonfinite.item<int64_t>(), count - 1);
}

}  // namespace
}  // namespace dm::kernels::test
