// A build without CUDA.

#include "core/error.h"
#include "dist/nccl_collectives.h"
#include "dist/staged_collectives.h"

namespace dm::dist {

std::unique_ptr<Collectives> make_nccl_collectives(std::unique_ptr<Collectives>, NcclOptions) {
  DM_FAIL(ExitCode::usage,
          "--comm nccl: built without CUDA; configure with -D DM_CUDA=ON, or give --comm mpi");
}
std::string nccl_version() { return "none"; }

std::unique_ptr<Collectives> make_staged_collectives(std::unique_ptr<Collectives>, std::function<void*()>) {
  DM_FAIL(ExitCode::usage, "--device cuda: built without CUDA; configure with -D DM_CUDA=ON");
}

}  // namespace dm::dist
