#pragma once
// The one exception type and the checks that throw it.
//
// A message names the problem, its reason and the remedy, with the values in it:
//   DM_REQUIRE(tokens > 0, ExitCode::bad_data, "{}: no tokens; give --input a file that holds text", path);
// DM_CHECK guards what only a bug can break (exit 70); DM_REQUIRE guards what a user, a file or a machine can
// break.

#include <fmt/core.h>

#include <cerrno>
#include <stdexcept>
#include <string>

#include "core/exit_code.h"

namespace dm {

/// Thrown by every failed check. what() is the message alone; describe() adds the place, rank and host.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, const char* file, int line, const char* expression = "",
        int error_number = 0);

  ExitCode code() const { return code_; }
  const char* file() const { return file_; }  // path from the source root
  int line() const { return line_; }
  const char* expression() const { return expression_; }  // text of the failed condition, "" if none
  int error_number() const { return error_number_; }      // errno where a system call failed, else 0

 private:
  ExitCode code_;
  const char* file_;
  int line_;
  const char* expression_;
  int error_number_;
};

/// "diffmamba: MESSAGE" for errors of users and files; errors of the program add expression, file:line, rank
/// and host.
std::string describe(const Error& error);

/// An Error for the current errno of `operation` on `path`. EACCES, EPERM and EROFS give
/// ExitCode::permission, everything else ExitCode::io; the message ends with a remedy where there is one
/// (ENOSPC, EMFILE, EROFS, ...).
[[noreturn]] void throw_errno(int error_number, const char* operation, const std::string& path,
                              const char* file, int line);

namespace detail {
/// A source path without the part above the source root, so that messages do not depend on where it was
/// built.
const char* relative_source(const char* file);
}  // namespace detail
}  // namespace dm

#define DM_FAIL(code, ...) throw ::dm::Error((code), ::fmt::format(__VA_ARGS__), __FILE__, __LINE__)

#define DM_REQUIRE(condition, code, ...)                                                     \
  do {                                                                                       \
    if (!(condition)) [[unlikely]]                                                           \
      throw ::dm::Error((code), ::fmt::format(__VA_ARGS__), __FILE__, __LINE__, #condition); \
  } while (false)

#define DM_CHECK(condition, ...) DM_REQUIRE(condition, ::dm::ExitCode::internal, __VA_ARGS__)

/// Throws for a system call that answered a negative number, with errno, the call's name and the path.
#define DM_SYS(call, operation, path)                                    \
  do {                                                                   \
    if ((call) < 0) [[unlikely]]                                         \
      ::dm::throw_errno(errno, (operation), (path), __FILE__, __LINE__); \
  } while (false)
