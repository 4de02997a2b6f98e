#include "kernels/matrix_copy/matrix_copy_cuda.h"

#include <limits>

#include "kernels/device/cuda/tensor.h"
#include "kernels/matrix_copy/cuda/matrix_copy.cuh"

namespace dm::kernels {
namespace {

bool served(const MatrixCopy& copy) {
  const at::Tensor &from = copy.from, &to = copy.to;
  const auto in_packs = [](const at::Tensor& t) {
    return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0;
  };
  return from.is_cuda() && from.scalar_type() == at::kFloat && to.scalar_type() == at::kBFloat16 &&
         from.is_contiguous() && to.stride(1) == 1 && from.size(1) % cuda::kCopyPack == 0 &&
         to.stride(0) % cuda::kCopyPack == 0 && in_packs(from) && in_packs(to) &&
         from.numel() / cuda::kCopyPack <= std::numeric_limits<int32_t>::max();
}

}  // namespace

std::vector<MatrixCopy> copy_matrices_cuda(const std::vector<MatrixCopy>& copies) {
  std::vector<MatrixCopy> rest;
  cuda::MatrixCopies some{};
  const auto launch = [&] {
    check_launch(cuda::copy_matrices(some, current_stream()), "copy_matrices");
    some.count = 0;
  };
  for (const MatrixCopy& copy : copies) {
    if (copy.from.numel() == 0) continue;
    if (!served(copy)) {
      rest.push_back(copy);
      continue;
    }
    at::Tensor to = copy.to;
    some.of[some.count++] = {.from = copy.from.const_data_ptr<float>(),
                             .to = to.mutable_data_ptr(),
                             .packs = static_cast<int32_t>(copy.from.numel() / cuda::kCopyPack),
                             .row_packs = static_cast<int32_t>(copy.from.size(1) / cuda::kCopyPack),
                             .stride = to.stride(0)};
    if (some.count == cuda::kMostCopies) launch();
  }
  if (some.count > 0) launch();
  return rest;
}

}  // namespace dm::kernels
