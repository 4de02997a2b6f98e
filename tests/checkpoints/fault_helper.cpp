// A program that does to a run directory what a training job does, compiled with failpoints; fault_test.cpp
// makes it fail.
//   save RUN STEP...    opens the run, loads the newest checkpoint and checks it, then saves each STEP
//   save-one ...        the same, keeping one checkpoint instead of two
//   resume RUN          opens the run, loads the newest checkpoint and prints "newest STEP" or "newest none"
// The state of a step is the sample state with the step as its seed. Exits as diffmamba does, 99 for wrong
// values.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "checkpoints/store.h"
#include "core/error.h"
#include "core/signals.h"
#include "dist/environment.h"
#include "tests/checkpoints/sample_state.h"

namespace {

using dm::test::SampleState;

int work(dm::Collectives& group, int argc, char** argv) {
  const int64_t keep_last = std::strcmp(argv[1], "save-one") == 0 ? 1 : 2;
  dm::checkpoints::Store store(argv[2], {.keep_last = keep_last, .keep_every = 0, .ranks_per_file = 0},
                               group);
  const auto newest = store.newest();
  if (group.rank() == 0) std::printf("newest %s\n", newest ? std::to_string(newest->step).c_str() : "none");
  if (newest) {
    SampleState state(SampleState::Split::columns, group.rank(), group.size(), 0, false);
    dm::checkpoints::load(newest->directory, state.pieces());
    if (!state.wrong(static_cast<uint64_t>(newest->step)).empty()) return 99;
  }
  for (int i = 3; i < argc; ++i) {
    const long step = std::atol(argv[i]);
    const SampleState state(SampleState::Split::ranges, group.rank(), group.size(),
                            static_cast<uint64_t>(step), true);
    store.save(step, state.pieces(), dm::Json{{"step", step}});
  }
  return 0;
}

/// Under mpirun with MPI, else without: these tests start hundreds of processes.
int run(int argc, char** argv) {
  if (!dm::dist::launched_in_parallel()) return work(*dm::make_single_process_collectives(), argc, argv);
  dm::dist::Environment mpi(argc, argv);
  try {
    return work(*mpi.make_world_group(), argc, argv);
  } catch (const dm::Error& error) {
    std::fprintf(stderr, "%s\n", describe(error).c_str());
    mpi.abort(static_cast<int>(error.code()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  dm::install_signal_handlers();
  try {
    return run(argc, argv);
  } catch (const dm::Error& error) {
    std::fprintf(stderr, "%s\n", describe(error).c_str());
    return static_cast<int>(error.code());
  }
}
