// A program that ends badly on purpose: `abort_helper HOW [CODE [RANK [ANOTHER]]]`.
//   abort CODE RANK   that rank calls Environment::abort(CODE) while the others sit in a barrier
//   unwind            the last rank throws past its Environment while the others sit in a barrier
//   end CODE RANK ANOTHER   every rank ends with CODE, that rank with ANOTHER, or not at all (0); each prints
//   whether
//                     they all_end_with the same, and exits with 0
//   hang HOW RANK SECONDS   all take steps under a watchdog of so many seconds; after the fifth that rank
//   stops, is busy for ever,
//                     enters another exchange, or is slow from then on
//   start             only starts and ends, and exits with the Error's code when that is refused

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "core/error.h"
#include "dist/environment.h"
#include "dist/watchdog.h"
#include "dist/watched_collectives.h"

namespace {
void misbehave(const std::string& how, dm::Collectives& group) {
  if (how == "stop") std::raise(SIGSTOP);
  if (how == "busy")
    for (std::atomic<int64_t> spin = 0;; ++spin) {
    }
  if (how == "other") group.barrier();
  if (how == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

void take_steps(dm::dist::Environment& mpi, const std::string& how, int64_t rank, double seconds) {
  dm::dist::Watchdog watchdog(mpi, {.watchdog_seconds = seconds});
  const auto group = dm::dist::watched(mpi.make_world_group(), watchdog.activity());
  for (int64_t step = 1; step <= 30; ++step) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (step == 6) std::this_thread::sleep_for(std::chrono::seconds(1));  // heartbeats tell of step 5
    if (step > 5 && mpi.rank() == rank) misbehave(how, *group);
    group->all_sum(1);
    watchdog.activity().step_done(step);
  }
}

int run(int argc, char** argv) {
  dm::dist::Environment mpi(argc, argv);
  const auto group = mpi.make_world_group();
  if (std::strcmp(argv[1], "abort") == 0) {
    if (mpi.rank() == std::atoi(argv[3])) mpi.abort(std::atoi(argv[2]));
    group->barrier();
  }
  if (std::strcmp(argv[1], "unwind") == 0) {
    if (mpi.rank() == mpi.world() - 1) DM_FAIL(dm::ExitCode::bad_data, "thrown on purpose");
    group->barrier();
  }
  if (std::strcmp(argv[1], "hang") == 0) take_steps(mpi, argv[2], std::atoi(argv[3]), std::atof(argv[4]));
  if (std::strcmp(argv[1], "end") == 0) {
    const int code = std::atoi(argv[mpi.rank() == std::atoi(argv[3]) ? 4 : 2]);
    if (code != 0) std::printf("%s\n", mpi.all_end_with(code) ? "together" : "apart");
  }
  return 0;
}
}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const dm::Error& error) {
    std::fprintf(stderr, "%s\n", describe(error).c_str());
    return static_cast<int>(error.code());
  }
}
