#pragma once
// MPI for the time of a program: initialised with MPI_ERRORS_RETURN, the ranks' places on their hosts found out,
// finalised on success, aborted otherwise. main owns it.

#include <cstdint>
#include <memory>
#include <string>

#include "core/collectives.h"

namespace dm::dist {

class Environment {
 public:
  /// MPI_Init_thread(MPI_THREAD_MULTIPLE). Refuses (ExitCode::usage, within two seconds) a launcher that started N single
  /// processes instead of N ranks: OMPI_COMM_WORLD_SIZE > 1, or SLURM_STEP_NUM_TASKS > 1 with no OMPI_* set, while MPI's world is 1.
  Environment(int& argc, char**& argv);
  ~Environment();  // finalises; never throws

  int64_t rank() const;
  int64_t world() const;
  int64_t local_rank() const;   // among the ranks of this host
  int64_t local_world() const;

  /// Ends the job on all ranks with this exit code. For exceptions that reach main on one rank.
  [[noreturn]] void abort(int exit_code);

  /// A new group of all ranks with traffic of its own; every rank must call it in the same order.
  std::unique_ptr<Collectives> make_world_group();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// True when this process was started by mpirun or srun as one of several (from the environment alone, before MPI_Init).
bool launched_in_parallel();

}  // namespace dm::dist
