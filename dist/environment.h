#pragma once
// MPI for the time of a program: initialised with MPI_ERRORS_RETURN, the ranks' places on their hosts found
// out, finalised on success, aborted otherwise. main owns it.
//
//   dist::Environment mpi(argc, argv);
//   try { run(mpi); } catch (const Error& error) { log_error(describe(error)); mpi.abort(error.code()); }
//
// An exception that unwinds past an Environment of several ranks ends the job too, with ExitCode::internal:
// finalising would wait for ranks that wait for this one.

#include <cstdint>
#include <memory>
#include <string>

#include "core/collectives.h"

namespace dm::dist {

class Mailbox;

/// Messages above this are split: MPI's counts are int. Tests lower it.
inline constexpr int64_t kMessageLimitBytes = int64_t{1} << 30;

class Environment {
 public:
  /// MPI_Init_thread(MPI_THREAD_MULTIPLE). Refuses (ExitCode::usage, within two seconds) a launcher that
  /// started N single processes instead of N ranks: OMPI_COMM_WORLD_SIZE > 1, or without it
  /// SLURM_STEP_NUM_TASKS > 1, while MPI's world is 1.
  Environment(int& argc, char**& argv);
  ~Environment();  // finalises; never throws

  int64_t rank() const;
  int64_t world() const;
  int64_t local_rank() const;  // among the ranks of this host
  int64_t local_world() const;

  /// Ends the job on all ranks, also those inside a collective, with this exit code; mpirun returns it. For
  /// exceptions that reach main on one rank.
  [[noreturn]] void abort(int exit_code);

  /// For an error that all ranks may have met: true when, within a second, every rank calls this with the
  /// same code. The job may then end in good order on all of them, without abort. Otherwise false, on each
  /// rank that called it.
  bool all_end_with(int exit_code);

  /// A new group of all ranks with traffic of its own; every rank must call it in the same order. Groups go
  /// before the Environment does.
  std::unique_ptr<Collectives> make_world_group(int64_t message_limit_bytes = kMessageLimitBytes);
  /// Groups of the ranks that give the same colour (>= 0), in the order of their ranks; otherwise as above.
  std::unique_ptr<Collectives> make_group(int64_t color);
  /// Letters between all ranks, likewise.
  std::unique_ptr<Mailbox> make_mailbox();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// True when this process was started by mpirun or srun as one of several (from the environment alone, before
/// MPI_Init).
bool launched_in_parallel();
/// The rank that the launcher gave this process, likewise; 0 without one.
int64_t launched_rank();

}  // namespace dm::dist
