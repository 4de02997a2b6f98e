#pragma once
// core/collectives.h over NCCL, on the memory of GPUs. A build without CUDA has none and says so.
//
// Operations join the caller's stream; nothing waits on the host beyond the moment that NCCL takes to queue
// them. send and receive join it together, at the first wait() on one of them or before the next operation,
// so that ranks may exchange in any order. Sums are added in an order that depends on the number of ranks,
// their links and the size alone: a run repeats bit for bit. max and min hand on a NaN only where NCCL does.
//
// Communicators do not block: what a call has not done at once is polled for, and a thread polls for errors
// that turn up later, in kernels or on the network.

#include <functional>
#include <memory>
#include <string>

#include "core/collectives.h"

namespace dm::dist {

struct NcclOptions {
  /// The stream that is current where an operation is called, a cudaStream_t.
  std::function<void*()> current_stream;
  /// Called from the polling thread when a peer, a link or a GPU was lost; ends the job.
  std::function<void(const std::string& message)> lost;
  double start_timeout_s = 180;  // ranks that have not met by then have lost one
};

/// The ranks of `host` (host memory, kept for barriers) call it together, each with its GPU current.
/// ExitCode::usage in a build without CUDA, ExitCode::lost where the ranks do not come together.
std::unique_ptr<Collectives> make_nccl_collectives(std::unique_ptr<Collectives> host, NcclOptions options);

/// "2.28.9", or "none" in a build without CUDA.
std::string nccl_version();

}  // namespace dm::dist
