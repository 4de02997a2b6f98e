#include "kernels/matrix_copy/matrix_copy.h"

#include "tests/kernels/cuda/compare.h"

namespace dm::kernels::test {
namespace {

/// Of every kind more than a launch takes: with rows apart, of widths that no pack divides, from the middle
/// of a matrix, of a few elements and of many, of other dtypes.
TEST(CopyMatricesCuda, RoundsAsTheCpu) {
  std::vector<MatrixCopy> copies;
  std::vector<at::Tensor> whole, expected;
  const auto add = [&](const at::Tensor& from, int64_t more, int64_t first, at::ScalarType dtype) {
    whole.push_back(at::full({from.size(0), from.size(1) + more}, 7, at::dtype(dtype).device(at::kCUDA)));
    expected.push_back(whole.back().cpu());
    expected.back().narrow(1, first, from.size(1)).copy_(from);
    copies.push_back({from.to(at::kCUDA), whole.back().narrow(1, first, from.size(1))});
  };
  for (const int64_t rows : {0, 1, 3, 130})
    for (const int64_t columns : {1, 8, 24, 30, 1032})
      for (const int64_t more : {0, 3, 8})
        for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
          const at::Tensor from = normal("from", {rows, columns}, at::kFloat);
          add(from, more, 0, dtype), add(from, more, more, dtype);
        }
  add(normal("large", {5000, 4096}, at::kFloat), 0, 0, at::kBFloat16);
  add(at::full({4, 8}, NAN, at::kFloat), 0, 0, at::kBFloat16);
  ASSERT_GT(copies.size(), 200u);
  copy_matrices(copies);
  for (size_t i = 0; i < copies.size(); ++i) {
    const at::Tensor got = whole[i].cpu();
    EXPECT_TRUE(at::equal(got.nan_to_num(3), expected[i].nan_to_num(3))) << i << ": " << got.sizes();
  }
}

}  // namespace
}  // namespace dm::kernels::test
