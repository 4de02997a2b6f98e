// The operations on GPU tensors in a build without CUDA, where there are no such tensors.

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/ssd_mixer/ssd_mixer_cuda.h"

namespace dm::kernels {
namespace {

[[noreturn]] void refuse(const char* operation) {
  DM_FAIL(ExitCode::internal, "{}: a tensor on a GPU in a program that was built without CUDA", operation);
}

}  // namespace

at::Tensor linear_cuda(const at::Tensor&, const Weight&, const std::optional<at::Tensor>&) {
  refuse("linear");
}
std::pair<at::Tensor, at::Tensor> split_columns_cuda(const at::Tensor&, int64_t) { refuse("split_columns"); }

at::Tensor ssd_mixer_cuda(const at::Tensor&, const SsdMixerWeights&, const std::optional<at::Tensor>&,
                          const at::Tensor&, const SsdMixerForm&, const Weight*) {
  refuse("ssd_mixer");
}

}  // namespace dm::kernels
