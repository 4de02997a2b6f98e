#pragma once
#include <cuda_runtime_api.h>

namespace dm::test {

/// Documents packed into one row do not see each other: everything of one is drawn anew, and outputs and
/// gradients of all others keep their bits. Prints a line a case; false where something moved.
bool check_isolation(cudaStream_t stream);

}  // namespace dm::test
