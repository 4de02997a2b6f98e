// The one program: `diffmamba COMMAND`.

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "core/signals.h"
#include "dist/environment.h"
#include "launch/command.h"
#include "launch/failure.h"
#include "launch/options.h"
#include "launch/pages.h"
#include "launch/ranks.h"

namespace dm::launch {
namespace {

ExitCode dispatch(int argc, char** argv) {
  const auto commands = make_commands();
  std::string word = argc > 1 ? argv[1] : "--help";
  if (word == "-h" || word == "help") word = "--help";
  for (const Page& page : pages())
    if (word == page.word) return fmt::print("{}", page.text(commands)), ExitCode::ok;

  for (const auto& command : commands) {
    if (word != command->name()) continue;
    const ParsedOptions parsed = parse_options(*command, {argv + 2, argv + argc});
    if (parsed.help) return fmt::print("{}", help_text(*command)), ExitCode::ok;
    if (parsed.print_config) return fmt::print("{}", command->table().to_ini()), ExitCode::ok;
    DM_REQUIRE(command->takes_ranks() || !dist::launched_in_parallel(), ExitCode::usage,
               "{} runs as one process: start it without mpirun or srun", command->name());
    return command->run({argc, argv});
  }
  std::string known;
  for (const auto& command : commands) known += fmt::format(" {}", command->name());
  DM_FAIL(ExitCode::usage, "no command '{}'; there are:{}", word, known);
}

}  // namespace
}  // namespace dm::launch

int main(int argc, char** argv) {
  // MKL reads these at its first call. The same bits for the same shapes and threads need a fixed code path
  // and thread count.
  setenv("MKL_CBWR", "AUTO,STRICT", 0);
  setenv("MKL_DYNAMIC", "FALSE", 0);
  dm::install_signal_handlers();
  dm::launch::end_uncaught_exceptions_as_failures();
  dm::ExitCode code = dm::ExitCode::internal;
  try {
    code = dm::launch::dispatch(argc, argv);
  } catch (...) {
    const dm::launch::Failure failure = dm::launch::current_failure();
    dm::launch::tell_once(failure.message);
    code = failure.code;
  }
  if (std::fflush(stdout) != 0 && code == dm::ExitCode::ok)
    code = dm::ExitCode::io;  // a full disk behind a redirect
  return static_cast<int>(code);
}
