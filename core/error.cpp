#include "core/error.h"

#include <cerrno>
#include <cstring>

#include "core/process.h"

namespace dm {

const char* meaning(ExitCode code) {
  switch (code) {
    case ExitCode::ok: return "done";
    case ExitCode::usage: return "an option or a config that cannot be";
    case ExitCode::bad_data: return "a dataset, checkpoint or model file is damaged or does not fit";
    case ExitCode::internal: return "an internal error, or numerics that left the finite numbers";
    case ExitCode::lost: return "a rank, device or network was lost, or the job hung: run it again";
    case ExitCode::locked: return "another job owns the run directory";
    case ExitCode::io: return "the file system failed (full, broken, out of descriptors)";
    case ExitCode::saved: return "state saved after a signal: run it again";
    case ExitCode::permission: return "the file system refused access";
    case ExitCode::interrupted: return "interrupted; nothing was left half-done: run it again";
    case ExitCode::repeated: return "the same step failed three times: do not run it again";
  }
  return "unknown";
}

Error::Error(ExitCode code, const std::string& message, const char* file, int line, const char* expression,
             int error_number)
    : std::runtime_error(message),
      code_(code),
      file_(detail::relative_source(file)),
      line_(line),
      expression_(expression),
      error_number_(error_number) {}

std::string describe(const Error& error) {
  std::string text = fmt::format("diffmamba: {}", error.what());
  if (error.code() != ExitCode::internal) return text;
  if (*error.expression()) text += fmt::format("\n  check: {}", error.expression());
  const ProcessIdentity& me = process_identity();
  return text + fmt::format("\n  at {}:{}, rank {} of {} on {}", error.file(), error.line(), me.rank,
                            me.world, me.host);
}

namespace {
const char* remedy(int error_number) {
  switch (error_number) {
    case ENOSPC: return "; free space there or choose another directory";
    case EDQUOT: return "; your quota is used up: free space or choose another directory";
    case EROFS: return "; the file system is read-only: choose another directory";
    case EACCES:
    case EPERM: return "; check its owner and mode, or choose another directory";
    case EMFILE: return "; raise the limit on open files (ulimit -n)";
    case EFBIG: return "; raise the limit on file sizes (ulimit -f)";
    case EIO: return "; the device reports an error: check it before you go on";
    default: return "";
  }
}
}  // namespace

void throw_errno(int error_number, const char* operation, const std::string& path, const char* file,
                 int line) {
  const bool refused = error_number == EACCES || error_number == EPERM || error_number == EROFS;
  throw Error(refused ? ExitCode::permission : ExitCode::io,
              fmt::format("{}: {}: {}{}", path, operation, std::strerror(error_number), remedy(error_number)),
              file, line, "", error_number);
}

namespace detail {
const char* relative_source(const char* file) {
  // This very file tells what stands before the source root, however the compiler was called.
  constexpr const char* kHere = __FILE__;
  const size_t prefix = std::strlen(kHere) - std::strlen("core/error.cpp");
  return std::strncmp(file, kHere, prefix) == 0 ? file + prefix : file;
}
}  // namespace detail
}  // namespace dm
