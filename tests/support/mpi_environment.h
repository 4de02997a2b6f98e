#pragma once
// The Environment that tests/support/mpi_main.cpp made, for tests that run on several ranks.

#include "dist/environment.h"

namespace dm::test {
dist::Environment& mpi();
}  // namespace dm::test
