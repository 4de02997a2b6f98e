#include "kernels/embedding/embedding.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/embedding/embedding_cuda.h"

namespace dm::kernels {

at::Tensor embedding(const at::Tensor& ids, const Weight& weights) {
  const at::Tensor& weight = weights.value;
  DM_CHECK_FLOATING("embedding", weight);
  DM_CHECK_SHAPE("embedding", weight, weight.scalar_type(), -1, -1);
  DM_CHECK(ids.scalar_type() == at::kLong || ids.scalar_type() == at::kInt,
           "embedding: ids are {}, expected int64 or int32", describe(ids));
  if (weight.is_cuda()) return embedding_cuda(ids, weights);
  DM_CHECK(weights.parts.empty(), "embedding: on the CPU gradients of weights go through autograd");
  if (ids.numel() > 0) {
    const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
    DM_CHECK(low >= 0 && high < weight.size(0), "embedding: ids are in [{}, {}], but weight has {} rows", low,
             high, weight.size(0));
  }
  return at::embedding(weight, ids);
}

}  // namespace dm::kernels
