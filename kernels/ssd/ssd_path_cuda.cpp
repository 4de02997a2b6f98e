#include "kernels/ssd/ssd_path_cuda.h"

#include <mutex>
#include <set>
#include <utility>

#include "core/log.h"
#include "kernels/ssd/cuda/fast_shape.cuh"

namespace dm::kernels {
namespace {

bool said_first(const cuda::SsdShape& shape) {
  static std::mutex mutex;
  static std::set<std::pair<int64_t, int64_t>> said;
  const std::lock_guard lock(mutex);
  return said.emplace(shape.head_dim, shape.state).second;
}

}  // namespace

cuda::SsdPath chosen_ssd_path(const cuda::SsdInputs& in) {
  if (in.element == cuda::Element::kBFloat16 && !cuda::is_fast_shape(in.shape) && said_first(in.shape))
    log_warn(
        "Mamba-2's scan with heads of {} channels and a state of {} runs on the plain CUDA kernels, many "
        "times slower; the fast ones serve heads of 32, 64, 96, ... channels and states of 8, 16, 24, ... "
        "{}",
        in.shape.head_dim, in.shape.state, cuda::kMostColumns);
  return cuda::ssd_path(in);
}

}  // namespace dm::kernels
