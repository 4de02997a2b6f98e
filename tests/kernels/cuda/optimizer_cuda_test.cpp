// AdamW and the gradient's norm on the GPU.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <limits>

#include "kernels/adamw/adamw_cuda.h"
#include "kernels/square_sum/square_sum_cuda.h"
#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

using Range = std::pair<int64_t, int64_t>;

AdamWStep step_of(int64_t step) {
  return {.lr = 3e-3,
          .beta1 = 0.9,
          .beta2 = 0.95,
          .eps = 1e-8,
          .weight_decay = 0.1,
          .grad_scale = 0.37,
          .step = step};
}

at::Tensor gradient(int64_t count, int64_t step) {
  at::Tensor values = normal("grad" + std::to_string(step), {count}, at::kFloat);
  if (count > 3) {  // subnormal squares, zeros and large values are rounded alike too
    values[0] = 1e-21f;
    values[1] = 0.f;
    values[2] = 1e15f;
  }
  return values;
}

/// weight, m, v after three steps on the CPU, piece by piece.
Tensors on_cpu(int64_t count, const std::vector<Range>& decayed) {
  Tensors state{normal("weight", {count}, at::kFloat), at::zeros({count}, at::kFloat),
                at::zeros({count}, at::kFloat)};
  for (int64_t step = 1; step <= 3; ++step) {
    const at::Tensor grad = gradient(count, step);
    const auto piece = [&](int64_t begin, int64_t end, bool decays) {
      AdamWStep s = step_of(step);
      if (!decays) s.weight_decay = 0;
      adamw(state[0].data_ptr<float>() + begin, state[1].data_ptr<float>() + begin,
            state[2].data_ptr<float>() + begin, grad.const_data_ptr<float>() + begin, end - begin, s);
    };
    int64_t at = 0;
    for (const auto& [begin, end] : decayed) {
      piece(at, begin, false);
      piece(begin, end, true);
      at = end;
    }
    piece(at, count, false);
  }
  return state;
}

/// The same on the GPU, all arrays `shift` elements into their memory.
Tensors on_gpu(int64_t count, const std::vector<Range>& decayed, int64_t shift) {
  const at::TensorOptions gpu = at::TensorOptions(at::kCUDA).dtype(at::kFloat);
  const auto place = [&](const at::Tensor& values) {
    at::Tensor whole = at::full({count + shift + 4}, 7.f, gpu);
    whole.slice(0, shift, shift + count).copy_(values);
    return whole;
  };
  const auto part = [&](const at::Tensor& whole) { return whole.slice(0, shift, shift + count); };
  const Tensors state{place(normal("weight", {count}, at::kFloat)), place(at::zeros({count})),
                      place(at::zeros({count}))};
  at::Tensor ranges = at::empty({static_cast<int64_t>(decayed.size()), 2}, at::kLong);
  for (size_t i = 0; i < decayed.size(); ++i) {
    ranges[static_cast<int64_t>(i)][0] = decayed[i].first;
    ranges[static_cast<int64_t>(i)][1] = decayed[i].second;
  }
  for (int64_t step = 1; step <= 3; ++step) {
    AdamWFactors<float> factors = adamw_factors<float>(step_of(step));
    adamw_cuda({part(state[0]), part(state[1]), part(state[2]), part(place(gradient(count, step))),
                ranges.to(at::kCUDA), at::from_blob(&factors, {7}, at::kFloat).to(at::kCUDA)});
  }
  Tensors result;
  for (const at::Tensor& whole : state) {
    EXPECT_EQ(whole.slice(0, 0, shift).eq(7).all().item<bool>(), true) << "written before the range";
    EXPECT_EQ(whole.slice(0, shift + count).eq(7).all().item<bool>(), true) << "written behind the range";
    result.push_back(part(whole).cpu());
  }
  return result;
}

TEST(AdamWCuda, GivesTheBitsOfTheCpu) {
  for (const int64_t count : {1, 7, 2047, 2048, 2049, 100003})
    for (const int64_t shift : {0, 1, 4}) {
      std::vector<std::vector<Range>> choices{{}, {{0, count}}};
      if (count > 3000)
        choices.push_back({{1, 3}, {5, 2047}, {2047, 2048}, {2048, 4096}, {4097, 4098}, {9001, 90003}});
      for (const std::vector<Range>& decayed : choices) {
        SCOPED_TRACE(fmt::format("{} elements, shift {}, {} ranges", count, shift, decayed.size()));
        const Tensors expected = on_cpu(count, decayed), got = on_gpu(count, decayed, shift);
        for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(got[i], expected[i])) << i;
      }
    }
}

TEST(SquareSumCuda, EqualsTheSumInFloat64) {
  for (const int64_t count : {0, 1, 5, 1023, 1 << 20, 5000003})
    for (const int64_t shift : {0, 1}) {
      const at::Tensor values = normal("values", {count}, at::kFloat);
      at::Tensor on_gpu = at::empty({count + shift}, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
      on_gpu = on_gpu.slice(0, shift);
      on_gpu.copy_(values);
      const SquareSum got = square_sum_cuda(on_gpu), again = square_sum_cuda(on_gpu);
      EXPECT_LE(relative_error(got.sum.cpu(), values.to(at::kDouble).square().sum()), 1e-13);
      EXPECT_TRUE(same_bits(got.sum.cpu(), again.sum.cpu()));
      EXPECT_EQ(got.first_nonfinite.item<int64_t>(), -1);
    }
}

TEST(SquareSumCuda, FindsTheFirstThatIsNotFinite) {
  const int64_t count = 3000007;
  at::Tensor values = normal("values", {count}, at::kFloat).to(at::kCUDA);
  values[2] = 3e38f;  // its square is no float32
  EXPECT_NEAR(square_sum_cuda(values).sum.item<double>() / 9e76, 1, 1e-6);
  for (const int64_t at : {int64_t{3000006}, int64_t{2000001}, int64_t{77}, int64_t{0}}) {
    values[at] = at == 77 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    const SquareSum got = square_sum_cuda(values);
    EXPECT_EQ(got.first_nonfinite.item<int64_t>(), at);
    EXPECT_FALSE(std::isfinite(got.sum.item<double>()));
  }
}

}  // namespace
}  // namespace dm::kernels::test
