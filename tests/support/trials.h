#pragma once
// How often a test repeats what it does: more in launch/test --nightly, which sets DM_NIGHTLY.

#include <cstdlib>

namespace dm::test {

inline int trials(int quick, int nightly) { return std::getenv("DM_NIGHTLY") != nullptr ? nightly : quick; }

}  // namespace dm::test
