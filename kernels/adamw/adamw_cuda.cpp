#include "kernels/adamw/adamw_cuda.h"

#include "kernels/adamw/cuda/adamw_cuda.cuh"
#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {

void adamw_cuda(const AdamWRange& range) {
  const int64_t count = range.weight.numel();
  constexpr int64_t kFactors = sizeof(AdamWFactors<float>) / sizeof(float);
  DM_CHECK_SHAPE("adamw_cuda", range.weight, at::kFloat, count);
  DM_CHECK_SHAPE("adamw_cuda", range.m, at::kFloat, count);
  DM_CHECK_SHAPE("adamw_cuda", range.v, at::kFloat, count);
  DM_CHECK_SHAPE("adamw_cuda", range.grad, at::kFloat, count);
  DM_CHECK_SHAPE("adamw_cuda", range.decayed, at::kLong, -1, 2);
  DM_CHECK_SHAPE("adamw_cuda", range.factors, at::kFloat, kFactors);
  for (const at::Tensor* t : {&range.weight, &range.m, &range.v, &range.grad, &range.decayed, &range.factors})
    DM_CHECK(t->is_cuda() && t->is_contiguous(), "adamw_cuda: {} is not contiguous on a GPU", describe(*t));
  check_launch(
      cuda::adamw(
          {.weight = range.weight.mutable_data_ptr<float>(),
           .m = range.m.mutable_data_ptr<float>(),
           .v = range.v.mutable_data_ptr<float>(),
           .grad = range.grad.const_data_ptr<float>(),
           .count = count,
           .decayed = reinterpret_cast<const cuda::IndexRange*>(range.decayed.const_data_ptr<int64_t>()),
           .decayed_count = range.decayed.size(0),
           .factors = reinterpret_cast<const AdamWFactors<float>*>(range.factors.const_data_ptr<float>())},
          current_stream()),
      "adamw_cuda");
}

}  // namespace dm::kernels
