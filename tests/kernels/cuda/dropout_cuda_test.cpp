#include "kernels/dropout/dropout.h"

#include <fmt/core.h>

#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

TEST(DropoutCuda, DropsWhatTheCpuDrops) {
  const CounterRng rng(3, "dropout");
  for (const int64_t width : {1, 3, 4, 30, 768, 1025})
    for (const double p : {0.1, 0.5, 0.99}) {
      TokenPlaces places{at::tensor({int64_t{7}, int64_t{9} << 33, int64_t{11}}, at::kLong), 65, 1000, 3};
      const at::Tensor x = normal("x", {150, width});
      const auto on = [&](const at::Tensor& values) {
        TokenPlaces there = places;
        there.samples = places.samples.to(values.device());
        return dropout(values, p, rng, there);
      };
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        SCOPED_TRACE(fmt::format("D {}, p {}, {}", width, p, short_name(dtype)));
        const at::Tensor values = rounded(x, dtype), gpu = on(values.to(at::kCUDA, dtype)).cpu(),
                         cpu = on(values);
        EXPECT_TRUE(at::equal(gpu == 0, cpu == 0));
        // One product, rounded once.
        expect_gpu_close(fmt::format("dropout {}", short_name(dtype)), gpu, cpu,
                         dtype == at::kFloat ? 1e-7 : 4e-3);
      }
    }
}

TEST(DropoutCuda, GradientsPassWhereElementsDo) {
  const CounterRng rng(3, "dropout");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    expect_gpu_close(
        "dropout, gradient",
        [&](const Tensors& t) -> Tensors {
          return {dropout(t[0], 0.25, rng, {t[1].to(t[0].device()), 33, 0, 0})};
        },
        {{"x", normal("x", {2, 33, 70}), dtype}, {"samples", at::tensor({5, 6}, at::kLong), at::kLong}},
        dtype == at::kFloat ? Bars{1e-7, 1e-7} : Bars{4e-3, 4e-3});
}

}  // namespace
}  // namespace dm::kernels::test
