#pragma once
// The memory of GPUs over a group for host memory: every array goes through pinned host memory. For clusters
// whose NCCL does not work, and to compare with. Sums are those of the host group, in rank order.
//
// An operation copies its input behind what the caller's stream holds, waits for that copy on the host, and
// starts the host group's operation; wait() waits for that one on the host and queues the copy back. MPI that
// reads GPU memory itself would not help: the adding is done here, on the host, in rank order.

#include <functional>
#include <memory>

#include "core/collectives.h"

namespace dm::dist {

/// `current_stream` as of NcclOptions. ExitCode::usage in a build without CUDA.
std::unique_ptr<Collectives> make_staged_collectives(std::unique_ptr<Collectives> host,
                                                     std::function<void*()> current_stream);

}  // namespace dm::dist
