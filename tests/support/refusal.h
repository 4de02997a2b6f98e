#pragma once
// What an action refused with, for tests that read messages.

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "core/error.h"

namespace dm::test {

/// The message of the Error that `action` throws; a failure, and "", when it throws none or one of another
/// code.
inline std::string refusal(ExitCode code, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.code() == code ? error.what() : "";
  }
  ADD_FAILURE() << "nothing was refused; expected: " << meaning(code);
  return "";
}

}  // namespace dm::test
