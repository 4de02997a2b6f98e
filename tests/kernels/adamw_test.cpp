#include "kernels/adamw/adamw.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/parallel.h"
#include "kernels/adamw/adamw_reference.h"
#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

constexpr AdamWStep kStep{
    .lr = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_scale = 0.5, .step = 1};

/// weight, m, v after `steps` updates of `count` elements by `update`, in T.
template <class T, class Update>
Tensors trained(int64_t count, int64_t steps, const Update& update) {
  const at::ScalarType dtype = sizeof(T) == 4 ? at::kFloat : at::kDouble;
  Tensors state = {normal("weight", {count}, dtype), at::zeros({count}, dtype), at::zeros({count}, dtype)};
  for (int64_t step = 1; step <= steps; ++step) {
    const at::Tensor grad = normal("grad" + std::to_string(step), {count}, dtype);
    AdamWStep s = kStep;
    s.step = step;
    update(state[0].data_ptr<T>(), state[1].data_ptr<T>(), state[2].data_ptr<T>(), grad.const_data_ptr<T>(),
           count, s);
  }
  return state;
}

TEST(AdamW, EqualsItsReference) {
  for (const int64_t count : {1, 7, 33, 1000}) {
    const Tensors truth = trained<double>(count, 5, adamw_reference);
    for (const CpuLevel level : levels()) {
      const WithLevel with(level);
      const Tensors got = trained<double>(count, 5, adamw<double>),
                    single = trained<float>(count, 5, adamw<float>);
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_LE(relative_error(got[i], truth[i]), 1e-14);    // float64, a dozen roundings a step
        EXPECT_LE(relative_error(single[i], truth[i]), 1e-6);  // float32, likewise
      }
    }
  }
}

TEST(AdamW, ASingleStepByHand) {
  // m = 0.1 g, v = 0.05 g², both corrected back to g and g²: the step is lr whatever g, after decay by 1 -
  // 3e-4.
  double weight = 2, m = 0, v = 0;
  const double grad = 4;
  adamw(&weight, &m, &v, &grad, 1, kStep);
  EXPECT_NEAR(m, 0.2, 1e-15);
  EXPECT_NEAR(v, 0.2, 1e-15);
  EXPECT_NEAR(weight, 2 * (1 - 3e-4) - 3e-3, 1e-10);  // eps is 5e-9 of sqrt(v)
}

TEST(AdamW, TheSameBitsWhereverTheArrayIsCut) {
  const int64_t count = 100003;
  const Tensors whole = trained<float>(count, 3, adamw<float>);
  const auto in_pieces = [](float* weight, float* m, float* v, const float* grad, int64_t n,
                            const AdamWStep& step) {
    for (int64_t begin = 0, piece = 1; begin < n; begin += piece, piece = piece * 3 + 1) {
      piece = std::min(piece, n - begin);
      adamw(weight + begin, m + begin, v + begin, grad + begin, piece, step);
    }
  };
  const int64_t threads_before = threads();
  for (const CpuLevel level : levels()) {
    const WithLevel with(level);
    set_threads(level == CpuLevel::v3 ? 3 : 1);
    const Tensors pieces = trained<float>(count, 3, in_pieces);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(whole[i], pieces[i])) << name(level) << " " << i;
  }
  set_threads(threads_before);
}

TEST(AdamW, NothingToDo) { adamw<float>(nullptr, nullptr, nullptr, nullptr, 0, kStep); }

TEST(AdamW, RefusesAStepThatIsNotCountedFromOne) {
  AdamWStep step = kStep;
  step.step = 0;
  EXPECT_EQ(refusal([&] { adamw<float>(nullptr, nullptr, nullptr, nullptr, 0, step); }),
            "adamw: step is 0, expected at least 1");
}

}  // namespace
}  // namespace dm::kernels::test
