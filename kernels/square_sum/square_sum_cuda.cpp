#include "kernels/square_sum/square_sum_cuda.h"

#include "kernels/device/cuda/tensor.h"
#include "kernels/square_sum/cuda/square_sum_cuda.cuh"

namespace dm::kernels {

SquareSum square_sum_cuda(const at::Tensor& values) {
  DM_CHECK_SHAPE("square_sum_cuda", values, at::kFloat, -1);
  DM_CHECK(values.is_cuda() && values.is_contiguous(), "square_sum_cuda: {} is not contiguous on a GPU",
           describe(values));
  SquareSum result{at::empty({}, values.options().dtype(at::kDouble)),
                   at::empty({}, values.options().dtype(at::kLong))};
  const at::Tensor workspace = device_bytes(cuda::square_sum_workspace_bytes(), values);
  check_launch(cuda::square_sum(values.const_data_ptr<float>(), values.numel(), workspace.mutable_data_ptr(),
                                result.sum.mutable_data_ptr<double>(),
                                result.first_nonfinite.mutable_data_ptr<int64_t>(), current_stream()),
               "square_sum_cuda");
  return result;
}

}  // namespace dm::kernels
