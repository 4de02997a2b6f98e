#include "kernels/matrix_copy/matrix_copy.h"

#include "tests/kernels/support.h"

namespace dm::kernels::test {
namespace {

TEST(CopyMatrices, RoundsIntoOtherMatrices) {
  const at::Tensor a = normal("a", {5, 6}, at::kFloat), b = normal("b", {3, 8}, at::kFloat);
  at::Tensor both = at::full({5, 14}, 7, at::kBFloat16), alone = at::empty({3, 8}, at::kFloat);
  copy_matrices({{a, both.narrow(1, 8, 6)}, {b, alone}});
  EXPECT_TRUE(same_bits(both.narrow(1, 8, 6).contiguous(), a.to(at::kBFloat16)));
  EXPECT_TRUE(same_bits(both.narrow(1, 0, 8).contiguous(), at::full({5, 8}, 7, at::kBFloat16)));
  EXPECT_TRUE(same_bits(alone, b));
  copy_matrices({});
  EXPECT_EQ(refusal([&] {
              copy_matrices({{a, alone}});
            }),
            "copy_matrices: float32 [5, 6] into float32 [3, 8]");
}

}  // namespace
}  // namespace dm::kernels::test
