#include "launch/ranks.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <thread>

#include "core/error.h"
#include "core/log.h"

namespace dm::launch {
namespace {

[[noreturn]] void end_all_ranks(dist::Environment& environment, const std::string& message, ExitCode code) {
  // What goes wrong on every rank goes wrong on rank 0 too: it speaks first and ends the job while the others
  // hold back, so that one cause gives one message.
  if (environment.rank() != 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  log_error("{}", message);
  environment.abort(static_cast<int>(code));
}

}  // namespace

ExitCode run_with_ranks(const Invocation& invocation,
                        const std::function<ExitCode(dist::Environment&)>& body) {
  int argc = invocation.argc;
  char** argv = invocation.argv;
  dist::Environment environment(argc, argv);
  if (environment.world() == 1) return body(environment);
  set_log_terminal(environment.rank() == 0);
  try {
    return body(environment);
  } catch (const Error& error) {
    end_all_ranks(environment, fmt::format("rank {}: {}", environment.rank(), describe(error)), error.code());
  } catch (const c10::Error& error) {
    const std::string message =
        fmt::format("rank {}: LibTorch: {}", environment.rank(), error.what_without_backtrace());
    end_all_ranks(environment, message, ExitCode::internal);
  } catch (const std::exception& error) {
    end_all_ranks(environment, fmt::format("rank {}: {}", environment.rank(), error.what()),
                  ExitCode::internal);
  }
}

}  // namespace dm::launch
