#include "launch/failure.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <exception>
#include <new>

#include "core/error.h"

namespace dm::launch {

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
