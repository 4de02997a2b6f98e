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

}  // namespace dm::launch
