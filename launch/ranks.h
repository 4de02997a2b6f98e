#pragma once
// Running a command on all the ranks that mpirun or srun started, so that an error on one ends the job on
// all.

#include <functional>
#include <string>

#include "core/exit_code.h"
#include "dist/environment.h"
#include "launch/command.h"

namespace dm::launch {

/// Starts MPI, quietens ranks other than 0 on the terminal, runs `body`. An exception on one rank is printed
/// there and ends every rank with its code. When all ranks end with the same code, an option that cannot be
/// or a vote on a full disk, rank 0 prints it and all return. Alone, it goes on to main.
ExitCode run_with_ranks(const Invocation& invocation,
                        const std::function<ExitCode(dist::Environment&)>& body);

/// Prints what went wrong before MPI was started: under a launcher rank 0 does, and another one only if
/// nothing has ended it a moment later (the error was its alone).
void tell_once(const std::string& message);

}  // namespace dm::launch
