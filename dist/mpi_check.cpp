#include "dist/mpi_check.h"

#include <string>

#include "core/process.h"

namespace dm::dist::detail {
namespace {
/// Errors that only a caller can make; everything else comes from outside.
bool is_misuse(int error_class) {
  switch (error_class) {
    case MPI_ERR_BUFFER:
    case MPI_ERR_COUNT:
    case MPI_ERR_TYPE:
    case MPI_ERR_TAG:
    case MPI_ERR_COMM:
    case MPI_ERR_RANK:
    case MPI_ERR_REQUEST:
    case MPI_ERR_ROOT:
    case MPI_ERR_OP:
    case MPI_ERR_ARG:
    case MPI_ERR_TRUNCATE: return true;
    default: return false;
  }
}
}  // namespace

void throw_mpi(int code, const char* expression, const char* file, int line) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0, error_class = MPI_ERR_UNKNOWN;
  MPI_Error_string(code, text, &length);
  MPI_Error_class(code, &error_class);
  const ProcessIdentity& me = process_identity();
  const std::string place = fmt::format("rank {} of {} on {}", me.rank, me.world, me.host);
  if (is_misuse(error_class))
    throw Error(ExitCode::internal, fmt::format("MPI refused a call of {}: {}", place, text), file, line,
                expression);
  throw Error(ExitCode::lost,
              fmt::format("{}: a rank or the network was lost ({}); run it again", place, text), file, line,
              expression);
}

}  // namespace dm::dist::detail
