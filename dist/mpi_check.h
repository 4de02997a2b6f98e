#pragma once
// DM_MPI(MPI_Send(...)): throws for every code but MPI_SUCCESS. ExitCode::lost where the network or a rank is
// to blame, ExitCode::internal where the arguments are. Only the sources of dist/ include this.

#include <mpi.h>

#include "core/error.h"

namespace dm::dist::detail {
[[noreturn]] void throw_mpi(int code, const char* expression, const char* file, int line);
}  // namespace dm::dist::detail

#define DM_MPI(call)                                                             \
  do {                                                                           \
    if (const int dm_mpi_code = (call); dm_mpi_code != MPI_SUCCESS) [[unlikely]] \
      ::dm::dist::detail::throw_mpi(dm_mpi_code, #call, __FILE__, __LINE__);     \
  } while (false)
