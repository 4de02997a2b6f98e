#pragma once

namespace dm::kernels::test {

/// Times the operations that a test program is about, a JSON line each; every program has its own.
void time_operations();

}  // namespace dm::kernels::test
