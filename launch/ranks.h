#pragma once
// Running a command on all the ranks that mpirun or srun started, so that an error on one ends the job on
// all.

#include <functional>

#include "core/exit_code.h"
#include "dist/environment.h"
#include "launch/command.h"

namespace dm::launch {

/// Starts MPI, quietens ranks other than 0 on the terminal, runs `body`. An exception on one rank is printed
/// there and ends every rank with its code; alone, it goes on to main.
ExitCode run_with_ranks(const Invocation& invocation,
                        const std::function<ExitCode(dist::Environment&)>& body);

}  // namespace dm::launch
