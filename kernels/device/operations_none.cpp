// The operations on GPU tensors in a build without CUDA, where there are no such tensors.

#include "core/error.h"

namespace dm::kernels {
namespace {

[[noreturn]] [[maybe_unused]] void refuse(const char* operation) {
  DM_FAIL(ExitCode::internal, "{}: a tensor on a GPU in a program that was built without CUDA", operation);
}

}  // namespace

}  // namespace dm::kernels
