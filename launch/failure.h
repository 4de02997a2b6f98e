#pragma once
// What a command died of, as text for the user and exit code for whoever started it.

#include <string>

#include "core/exit_code.h"

namespace dm::launch {

struct Failure {
  ExitCode code = ExitCode::internal;
  std::string message;
};

/// Of the exception being handled.
Failure current_failure();

/// From now on an exception that nothing can catch ends the process with that failure's message and code.
/// After an error of the GPU's LibTorch throws from the destructors of tensors, where the language allows
/// nothing but an end at once; of several ranks the launcher ends the others.
void end_uncaught_exceptions_as_failures();

}  // namespace dm::launch
