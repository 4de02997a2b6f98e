#include "launch/ranks.h"

#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "core/log.h"
#include "core/signals.h"
#include "launch/failure.h"

namespace dm::launch {
namespace {

// How long the other ranks leave the first word to rank 0.
constexpr std::chrono::milliseconds kHoldBack{500};
// mpirun takes about a second to end the other ranks when one has ended badly.
constexpr std::chrono::seconds kLaunchersPatience{3};

ExitCode end_job(dist::Environment& environment, const Failure& failure) {
  const int64_t rank = environment.rank();
  if (environment.all_end_with(static_cast<int>(failure.code))) {
    if (rank == 0) log_error("{}", failure.message);
    return failure.code;
  }
  // Different errors may have one cause: rank 0 speaks first and ends the job.
  if (rank != 0) std::this_thread::sleep_for(kHoldBack);
  log_error("rank {}: {}", rank, failure.message);
  environment.abort(static_cast<int>(failure.code));
}

}  // namespace

ExitCode run_with_ranks(const Invocation& invocation,
                        const std::function<ExitCode(dist::Environment&)>& body) {
  int argc = invocation.argc;
  char** argv = invocation.argv;
  dist::Environment environment(argc, argv);
  if (environment.world() == 1) return body(environment);
  set_log_terminal(environment.rank() == 0);
  Failure failure;
  try {
    return body(environment);
  } catch (...) {
    failure = current_failure();
  }
  return end_job(environment, failure);
}

void tell_once(const std::string& message) {
  if (dist::launched_rank() > 0) {
    const auto until = std::chrono::steady_clock::now() + kLaunchersPatience;
    while (std::chrono::steady_clock::now() < until) {
      if (stop_requested() != StopRequest::none) return;  // rank 0 has spoken, and the launcher ends the rest
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  fmt::print(stderr, "{}\n", message);
}

}  // namespace dm::launch
