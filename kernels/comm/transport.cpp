#include "kernels/comm/transport.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/check.h"

namespace dm::kernels {
namespace {

void check_dense(const at::Tensor& tensor) {
  DM_CHECK(tensor.is_contiguous(), "exchanged tensors are contiguous, this is {} with strides",
           describe(tensor));
}

}  // namespace

DType comm_dtype(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble: return DType::f64;
    case at::kFloat: return DType::f32;
    case at::kBFloat16: return DType::bf16;
    case at::kInt: return DType::i32;
    case at::kLong: return DType::i64;
    default: DM_FAIL(ExitCode::internal, "{} does not travel between ranks", describe(tensor));
  }
}

void all_reduce(const at::Tensor& values, Collectives& group) {
  check_dense(values);
  group.all_reduce(values.data_ptr(), values.numel(), comm_dtype(values), Reduce::sum);
}

at::Tensor all_gather(const at::Tensor& mine, Collectives& group) {
  check_dense(mine);
  std::vector<int64_t> shape = mine.sizes().vec();
  shape.insert(shape.begin(), group.size());
  at::Tensor all = at::empty(shape, mine.options());
  group.all_gather(mine.const_data_ptr(), all.data_ptr(), mine.numel(), comm_dtype(mine))->wait();
  return all;
}

at::Tensor reduce_scatter(const at::Tensor& pieces, Collectives& group) {
  check_dense(pieces);
  DM_CHECK(pieces.size(0) == group.size(), "reduce_scatter: {} over {} ranks", describe(pieces),
           group.size());
  at::Tensor mine = at::empty(pieces.sizes().slice(1), pieces.options());
  group
      .reduce_scatter(pieces.const_data_ptr(), mine.data_ptr(), mine.numel(), comm_dtype(pieces), Reduce::sum)
      ->wait();
  return mine;
}

}  // namespace dm::kernels
