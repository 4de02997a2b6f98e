#pragma once

namespace dm::test {

/// What a test program does for --time in place of its tests: it times the operations that it is about, a
/// JSON line each. Set by the program before main(); null where there is nothing to time.
inline void (*time_operations)() = nullptr;

}  // namespace dm::test
