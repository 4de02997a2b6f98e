#include "launch/failure.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <new>

#include "core/error.h"
#include "core/log.h"
#include "core/process.h"

namespace dm::launch {
namespace {

[[noreturn]] void end_at_once() noexcept {
  if (!std::current_exception()) std::abort();
  const Failure failure = current_failure();
  const ProcessIdentity& me = process_identity();
  log_error("{}{}", me.world > 1 ? fmt::format("rank {} on {}: ", me.rank, me.host) : "", failure.message);
  std::_Exit(static_cast<int>(failure.code));
}

}  // namespace

void end_uncaught_exceptions_as_failures() { std::set_terminate(end_at_once); }

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), describe(error)};
  } catch (const c10::OutOfMemoryError& error) {
    return {ExitCode::internal,
            fmt::format("diffmamba: the GPU's memory ran out; fewer rows at once need less: {}",
                        error.what_without_backtrace())};
  } catch (const c10::AcceleratorError& error) {
    return {ExitCode::lost, fmt::format("diffmamba: the GPU failed: {}", error.what_without_backtrace())};
  } catch (const c10::Error& error) {
    return {ExitCode::internal, fmt::format("diffmamba: LibTorch: {}", error.what_without_backtrace())};
  } catch (const std::bad_alloc&) {
    return {ExitCode::internal, "diffmamba: out of memory; a smaller batch, length or model needs less"};
  } catch (const std::exception& error) {
    return {ExitCode::internal, fmt::format("diffmamba: {}", error.what())};
  }
}

}  // namespace dm::launch
